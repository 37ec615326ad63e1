"""What several kinds of stage share about language models: loading, prompts, spans, generation, answers."""
