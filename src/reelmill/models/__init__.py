"""Models: one module a family, the autoencoder, the tokenizer."""

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

# Their bars flash by for each of a pipeline's parts, in the middle of ours.
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()
