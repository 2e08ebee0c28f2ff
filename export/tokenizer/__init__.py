"""What a bundle needs to talk: tokenizer, chat template, generation defaults, and the format of answers."""
