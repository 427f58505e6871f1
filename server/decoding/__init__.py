"""Token ids: from logits to one token after another."""
