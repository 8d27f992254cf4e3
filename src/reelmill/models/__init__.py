"""Models: one module a family, the autoencoder, the tokenizer."""
