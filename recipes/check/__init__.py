"""`assay check`: what is in a recipe's data, what is wrong with it, and what is learned from it."""
