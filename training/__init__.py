"""The life of a language model: corpus, tokenizer, training, generation, evaluation, fine-tuning.

Knows nothing of the server, of LSP or of ONNX: it ends with a checkpoint folder on disk.
"""
