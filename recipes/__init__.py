"""The stories: what a chat, a classification and a question-answering run is made of."""
