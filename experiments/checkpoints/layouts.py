"""Layouts of known families of models: what their tensors are called, and count as."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from seedmap.errors import UserError
from seedmap.experiments.checkpoints.formats import Checkpoint
from seedmap.experiments.checkpoints.plain import PLAIN, plain_layout
from seedmap.experiments.checkpoints.rules import (
    HEADS,
    KV_HEADS,
    WIDTH,
    Layout,
    Rule,
    read_rules,
)


def _rules(*rows: tuple) -> tuple[Rule, ...]:
    return tuple(Rule(*row[:2], **(row[2] if len(row) > 2 else {})) for row in rows)


_JOINED = {"parts": (HEADS, WIDTH)}
_SHARED = {"parts": (KV_HEADS, WIDTH)}
_CONV = {"ndim": 4}
_GPT2_SIGN = r"(^|\.)h\.\d+\.attn\.c_attn\.weight$"


def _gpt2(axis: int) -> tuple[Rule, ...]:
    """Rules for GPT-2's names; queries, keys and values lie side by side on an axis."""
    return _rules(
        (r"(^|\.)(wte|wpe|lm_head)\.weight$", "ignore"),
        (r"(^|\.)ln_(1|2|f)\.", "ignore"),
        (r"(^|\.)attn\.(bias|masked_bias)$", "ignore"),  # the causal mask
        (r"attn\.c_attn\.weight$", "matrix", {"axis": axis, "parts": (3, HEADS, WIDTH)}),
        (r"(attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight$", "matrix"),
        (r"(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.bias$", "bias"),
    )


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "bert",  # Hugging Face; MultiBERTs
            r"attention\.self\.query\.weight$",
            _rules(
                (r"(^|\.)embeddings\.", "ignore"),
                (r"LayerNorm\.", "ignore"),
                (r"cls\.predictions\.(bias|decoder\.(weight|bias))$", "ignore"),  # back to words
                (r"attention\.self\.(query|key|value)\.weight$", "matrix", _JOINED),
                (r"attention\.self\.(query|key|value)\.bias$", "bias"),
                (
                    r"(output|intermediate|pooler|transform)\.dense\.weight$"
                    r"|(seq_relationship|classifier|qa_outputs)\.weight$",
                    "matrix",
                ),
                (
                    r"(output|intermediate|pooler|transform)\.dense\.bias$"
                    r"|(seq_relationship|classifier|qa_outputs)\.bias$",
                    "bias",
                ),
            ),
        ),
        Layout(
            "gpt-neox",  # Hugging Face; Pythia, PolyPythias
            r"layers\.\d+\.attention\.query_key_value\.weight$",
            _rules(
                (r"(^|\.)(embed_in|embed_out|lm_head)\.weight$", "ignore"),
                (r"layer_?norm\.(weight|bias)$|layer_norm\.", "ignore"),
                # Buffers that older files have: the causal mask and the rotary frequencies.
                (r"attention\.(bias|masked_bias|rotary_emb\.inv_freq)$", "ignore"),
                (r"query_key_value\.weight$", "matrix", {"parts": (HEADS, 3, WIDTH)}),
                (r"(attention\.dense|dense_h_to_4h|dense_4h_to_h)\.weight$", "matrix"),
                (r"(query_key_value|attention\.dense|dense_h_to_4h|dense_4h_to_h)\.bias$", "bias"),
            ),
        ),
        Layout("gpt2", _GPT2_SIGN, _gpt2(axis=1), longer=1),  # Hugging Face: [in, out]
        Layout("nanogpt", _GPT2_SIGN, _gpt2(axis=0), longer=0),  # [out, in]
        Layout(
            "llama",  # Hugging Face: LLaMA, Mistral, Qwen 2 and 3, Gemma 1 to 3
            r"layers\.\d+\.mlp\.gate_proj\.weight$",
            _rules(
                (r"(^|\.)(embed_tokens|lm_head)\.weight$", "ignore"),
                (r"(^|_|\.)(layer)?norm\.weight$", "ignore"),
                (r"rotary_emb(_local)?\.inv_freq$", "ignore"),
                (r"self_attn\.q_proj\.weight$", "matrix", _JOINED),
                (r"self_attn\.[kv]_proj\.weight$", "matrix", _SHARED),
                (r"(self_attn\.o_proj|mlp\.(gate|up|down)_proj)\.weight$", "matrix"),
                (r"(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.bias$", "bias"),
            ),
        ),
        Layout(
            "vit",  # Hugging Face
            r"attention\.attention\.query\.weight$|vit\.layers\.\d+\.attention\.q_proj\.weight$",
            _rules(
                (r"(^|\.)embeddings\.", "ignore"),
                (r"layernorm", "ignore"),
                (r"attention\.(query|key|value|[qkv]_proj)\.weight$", "matrix", _JOINED),
                (r"attention\.(query|key|value|[qkv]_proj)\.bias$", "bias"),
                (
                    r"(dense|o_proj|mlp\.fc[12])\.weight$|(^|\.)\w*classifier\.weight$",
                    "matrix",
                ),
                (r"(dense|o_proj|mlp\.fc[12])\.bias$|(^|\.)\w*classifier\.bias$", "bias"),
            ),
        ),
        Layout(
            "vit-timm",
            r"blocks\.\d+\.attn\.qkv\.weight$",
            _rules(
                (r"(^|\.)(cls_token|dist_token|reg_token|pos_embed|mask_token)$", "ignore"),
                (r"(^|\.)patch_embed\.", "ignore"),
                (r"(^|\.)((fc_|q_|k_)?norm(\d|_pre)?|ls\d)\.(weight|bias|gamma)$", "ignore"),
                (r"blocks\.\d+\.gamma_\d$", "ignore"),
                (r"attn\.qkv\.weight$", "matrix", {"parts": (3, HEADS, WIDTH)}),
                (r"(attn\.proj|mlp\.fc\d|(^|\.)head(_dist)?)\.weight$", "matrix"),
                (r"(attn\.(qkv|proj)|mlp\.fc\d|(^|\.)head(_dist)?)\.bias$", "bias"),
                (r"attn\.(q|v)_bias$", "bias"),
            ),
        ),
        Layout(
            "vit-torchvision",
            r"self_attention\.in_proj_weight$",
            _rules(
                (r"(^|\.)(class_token|pos_embedding)$", "ignore"),
                (r"(^|\.)conv_proj\.", "ignore"),  # patches to embeddings
                (r"(^|\.)ln(_\d)?\.(weight|bias)$", "ignore"),
                (r"self_attention\.in_proj_weight$", "matrix", {"parts": (3, HEADS, WIDTH)}),
                (r"self_attention\.in_proj_bias$", "bias"),
                (
                    r"(out_proj|mlp\.(\d|linear_\d)|heads\.(head|pre_logits))\.weight$",
                    "matrix",
                ),
                (r"(out_proj|mlp\.(\d|linear_\d)|heads\.(head|pre_logits))\.bias$", "bias"),
            ),
        ),
        Layout(
            "resnet",  # timm and torchvision, which have the same names
            r"(^|\.)layer1\.0\.conv1\.weight$",
            _rules(
                (r"(^|\.)downsample\.", "ignore"),  # shortcuts, as `resnet_rule`
                (r"(^|\.)(conv1(\.\d)?|conv\d)\.weight$", "kernels", _CONV),
                (r"(^|\.)(bn\d|conv1\.\d)\.", "ignore", {"ndim": 1}),
                (r"\.num_batches_tracked$", "ignore"),
                (r"(^|\.)fc\.weight$", "matrix"),
                (r"(^|\.)fc\.bias$", "bias"),
            ),
        ),
        Layout(
            "resnet-hf",  # Hugging Face
            r"embedder\.embedder\.convolution\.weight$",
            _rules(
                (r"\.normalization\.", "ignore"),
                (r"(^|\.)shortcut\.", "ignore"),
                (r"\.convolution\.weight$", "kernels", _CONV),
                (r"classifier(\.\d)?\.weight$", "matrix"),
                (r"classifier(\.\d)?\.bias$", "bias"),
            ),
        ),
        Layout(
            "flax",  # as `trainer.flax_rule`; Keras, which has these names and some more
            r"(^|\.)kernel$",
            _rules(
                (r"^(opt_state|step|batch_stats)(\.|$)", "ignore"),
                (r"(^|\.)(shortcut\.kernel|decoder\.bias)$", "ignore"),  # as our own experiments
                (r"(^|\.)kernel$", "kernels", {"spatial": "first", "ndim": 4}),
                (
                    r"(^|\.)(query|key|value)\.kernel$",
                    "matrix",
                    {"axis": 1, "parts": (HEADS,), "ndim": 3},
                ),
                (r"(^|\.)(out|attention_output)\.kernel$", "matrix", {"ndim": 3}),
                (r"(^|\.)kernel$", "matrix", {"ndim": 2}),
                (r"Norm[^.]*\.(bias|scale|mean|var)$", "ignore"),
                (r"(^|\.)(query|key|value)\.bias$", "bias", {"ndim": 2}),
                (r"(^|\.)bias$", "bias", {"ndim": 1}),
                (r"(^|\.)(embedding|pos_embedding|cls)$", "ignore"),
                (r"(^|\.)(gamma|beta|moving_mean|moving_variance|embeddings)$", "ignore"),
                (r"(^|\.)seed_generator_state$", "ignore"),
            ),
        ),
    )
}


def detect(shapes: Mapping[str, tuple[int, ...]], where: Path) -> Layout:
    """Finds the layout that the names of a checkpoint show; one of plain layers where they do not.

    Args:
        shapes: name of each tensor to its shape.
        where: the checkpoint, for the message.

    Raises:
        UserError: they show none, or several.
    """
    fitting = [layout for layout in LAYOUTS.values() if layout.fits(shapes)]
    plain = None if fitting else plain_layout(shapes)
    if plain is not None:
        return plain
    if len(fitting) != 1:
        which = " and of ".join(layout.name for layout in fitting) or "no known layout"
        raise UserError(
            f"{where} has names of {which} ({_some(list(shapes))}); choose one by --layout "
            f"({', '.join(LAYOUTS)}), or write rules (--rules FILE)"
        )
    return fitting[0]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:4])) + (", ..." if len(names) > 4 else "")


def find_layout(name: str | None, rules: Path | None, checkpoint: Checkpoint) -> Layout:
    """Returns the layout that is asked for, or else the one that the checkpoint's names show.

    Raises:
        UserError: it is not known, its file cannot be understood, or none is recognised.
    """
    if name is not None and rules is not None:
        raise UserError("--layout and --rules exclude each other; a rule file is a complete layout")
    if rules is not None:
        return read_rules(rules)
    if name is None:
        return detect(checkpoint.shapes, checkpoint.path)
    if name == PLAIN:
        return _plain(checkpoint)
    if name not in LAYOUTS:
        known = ", ".join([*LAYOUTS, PLAIN])
        raise UserError(f"--layout {name!r} is unknown; known are {known}")
    return LAYOUTS[name]


def _plain(checkpoint: Checkpoint) -> Layout:
    layout = plain_layout(checkpoint.shapes)
    if layout is None:
        raise UserError(
            f"{checkpoint.path} has tensors of other than plain layers "
            f"({_some(list(checkpoint.shapes))}); write rules (--rules FILE)"
        )
    return layout
