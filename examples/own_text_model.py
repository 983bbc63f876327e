"""A Hugging Face sequence classifier as the model of a run, on a table of token ids.

A row holds the ids of one text, padded with 0 to one length. They are categories, not quantities,
so the model is given them raw:

    raysubset run --data tokens.parquet --data.label_column label \
        --model.name examples.own_text_model:build --model.inputs raw

Nothing is downloaded: a small BERT begins from weights drawn by the run's seed. For published ones,
return Classifier.from_pretrained(FOLDER, num_labels=num_classes), and add --model.frozen true to
train the head alone: its embeddings are then computed once.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

VOCABULARY = 1000
PAD = 0


class Classifier(BertForSequenceClassification):
    """BERT for token ids that come as one float32 tensor of shape (batch, length)."""

    def forward(self, token_BL: Tensor) -> Any:
        """Return what the model returns; its `logits` are found, no adapter is needed."""
        ids_BL = token_BL.long()
        return super().forward(input_ids=ids_BL, attention_mask=ids_BL != PAD)


def build(num_classes: int, in_shape: tuple[int, ...]) -> Classifier:
    """Return a classifier of two small layers for texts of in_shape[0] tokens."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=in_shape[0],
        num_labels=num_classes,
        pad_token_id=PAD,
        attn_implementation="eager",
    )
    return Classifier(config)
