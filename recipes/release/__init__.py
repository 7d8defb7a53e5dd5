"""The release folder: the model that passed, its papers, its signature, and the check of it all."""
