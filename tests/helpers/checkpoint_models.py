"""Tiny models of real architectures, as `transformers`, timm and torchvision name their weights."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

import torch
import transformers
from transformers.utils import logging

logging.disable_progress_bar()

HEADS, WIDTH, LAYERS = 4, 16, 2
_SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 24,
}


def bert(seed):
    torch.manual_seed(seed)
    config = transformers.BertConfig(vocab_size=40, max_position_embeddings=8, **_SIZES)
    return transformers.BertForPreTraining(config)


def gpt_neox(seed):
    torch.manual_seed(seed)
    config = transformers.GPTNeoXConfig(vocab_size=40, max_position_embeddings=8, **_SIZES)
    return transformers.GPTNeoXForCausalLM(config)


def gpt2(seed):
    torch.manual_seed(seed)
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=8, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_inner=24
    )
    return transformers.GPT2LMHeadModel(config)


KV_HEADS = 2
_SHARED = {"vocab_size": 40, "max_position_embeddings": 8, "num_key_value_heads": KV_HEADS}
DECODERS = {  # whose names are LLaMA's
    "llama": ("Llama", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {"head_dim": 4}),
    "gemma": ("Gemma", {"head_dim": 4}),
    "gemma2": ("Gemma2", {"head_dim": 4}),
    "gemma3": ("Gemma3", {"head_dim": 4}),
}


def decoder(kind, seed):
    torch.manual_seed(seed)
    name, more = DECODERS[kind]
    text = "Text" if kind == "gemma3" else ""
    config = getattr(transformers, f"{name}{text}Config")(
        **_SIZES, **_SHARED, **more, pad_token_id=0, bos_token_id=1, eos_token_id=2
    )
    return getattr(transformers, f"{name}ForCausalLM")(config)


def vit(seed):
    torch.manual_seed(seed)
    config = transformers.ViTConfig(image_size=8, patch_size=4, num_labels=3, **_SIZES)
    return transformers.ViTForImageClassification(config)


def resnet(seed):
    torch.manual_seed(seed)
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 2], layer_type="basic", num_labels=3
    )
    return transformers.ResNetForImageClassification(config)


def batch(model):
    generator = torch.Generator().manual_seed(0)
    if model.config.model_type in ("vit", "resnet"):
        images = torch.randn(4, 3, 8, 8, generator=generator)
        return {"pixel_values": images, "labels": torch.tensor([0, 1, 2, 1])}
    ids = torch.randint(0, 40, (4, 8), generator=generator)
    more = (
        {"next_sentence_label": torch.tensor([0, 1, 0, 1])}
        if model.config.model_type == "bert"
        else {}
    )
    return {"input_ids": ids, "labels": ids} | more


def train(model, steps, rate=0.05):
    """Some steps of gradient descent, so that biases are not all zero."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch(model)).loss.backward()
        optimizer.step()
    return model


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def _block(prefix, norm):
    """Shapes of a transformer block's tensors under timm's or torchvision's names."""
    return {f"{prefix}.{norm}1.weight": (WIDTH,), f"{prefix}.{norm}1.bias": (WIDTH,)} | {
        f"{prefix}.{norm}2.weight": (WIDTH,),
        f"{prefix}.{norm}2.bias": (WIDTH,),
    }


def timm_vit():
    """A state dict with the names of timm's VisionTransformer."""
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, 4, 4),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for i in range(LAYERS):
        block = f"blocks.{i}"
        shapes |= _block(block, "norm") | {
            f"{block}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"{block}.attn.qkv.bias": (3 * WIDTH,),
            f"{block}.attn.proj.weight": (WIDTH, WIDTH),
            f"{block}.attn.proj.bias": (WIDTH,),
            f"{block}.ls1.gamma": (WIDTH,),
            f"{block}.mlp.fc1.weight": (24, WIDTH),
            f"{block}.mlp.fc1.bias": (24,),
            f"{block}.mlp.fc2.weight": (WIDTH, 24),
            f"{block}.mlp.fc2.bias": (WIDTH,),
        }
    shapes |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,)}
    shapes |= {"head.weight": (3, WIDTH), "head.bias": (3,)}
    return {name: numbers(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}


def torchvision_vit():
    """The same weights under the names of torchvision's VisionTransformer."""
    renamed = {
        "cls_token": "class_token",
        "pos_embed": "encoder.pos_embedding",
        "patch_embed.proj": "conv_proj",
        "blocks.": "encoder.layers.encoder_layer_",
        "attn.qkv.": "self_attention.in_proj_",
        "attn.proj": "self_attention.out_proj",
        "mlp.fc1": "mlp.0",
        "mlp.fc2": "mlp.3",
        ".norm1": ".ln_1",
        ".norm2": ".ln_2",
        "head.": "heads.head.",
    }
    state = {}
    for name, tensor in timm_vit().items():
        for old, new in renamed.items():
            name = name.replace(old, new)
        if "ls1" not in name:
            state["encoder.ln" + name[4:] if name.startswith("norm") else name] = tensor
    return state


def torchvision_resnet():
    """A state dict with the names that timm's and torchvision's ResNets share."""
    state = {"conv1.weight": numbers(4, 3, 7, 7)}
    norms = ["bn1"]
    for stage, (width, before) in enumerate([(4, 4), (8, 4)], start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            state[f"{name}.conv1.weight"] = numbers(width, width if block else before, 3, 3)
            state[f"{name}.conv2.weight"] = numbers(width, width, 3, 3, seed=9)
            norms += [f"{name}.bn1", f"{name}.bn2"]
        if width != before:
            state[f"layer{stage}.0.downsample.0.weight"] = numbers(width, before, 1, 1)
            norms += [f"layer{stage}.0.downsample.1"]
    for name in norms:
        state |= {f"{name}.{part}": torch.ones(8) for part in ("weight", "bias")}
        state |= {f"{name}.{part}": torch.ones(8) for part in ("running_mean", "running_var")}
        state[f"{name}.num_batches_tracked"] = torch.tensor(3)
    return state | {"fc.weight": numbers(3, 8), "fc.bias": numbers(3)}
