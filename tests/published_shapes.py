"""Shapes of the recipes' models as their makers publish them in config.json, and their parameters in billions."""

from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config


def _qwen2(*, vocab_size: int = 152064, **shape: object) -> Qwen2Config:
    return Qwen2Config(vocab_size=vocab_size, rms_norm_eps=1e-6, tie_word_embeddings=False, **shape)


def _qwen3(*, tie_word_embeddings: bool = False, **shape: object) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=151936,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        rms_norm_eps=1e-6,
        tie_word_embeddings=tie_word_embeddings,
        **shape,
    )


_QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131072,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
SHAPES: dict[str, tuple[PreTrainedConfig, float]] = {
    "r1-qwen-7b": (_qwen2(**_QWEN2_7B), 7.62),
    "skywork-or1-7b": (_qwen2(**_QWEN2_7B), 7.62),
    "r1-llama-8b": (
        LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=131072,
            rope_parameters=_LLAMA3_ROPE,
            tie_word_embeddings=False,
        ),
        8.03,
    ),
    "r1-qwen-14b": (
        _qwen2(
            hidden_size=5120,
            intermediate_size=13824,
            num_hidden_layers=48,
            num_attention_heads=40,
            num_key_value_heads=8,
            max_position_embeddings=131072,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        ),
        14.77,
    ),
    "qwen3-8b": (
        _qwen3(hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32),
        8.19,
    ),
    "qwen3-14b": (
        _qwen3(hidden_size=5120, intermediate_size=17408, num_hidden_layers=40, num_attention_heads=40),
        14.77,
    ),
    "r1-qwen-1.5b": (
        _qwen2(
            vocab_size=151936,
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            max_position_embeddings=131072,
            rope_parameters={"rope_type": "default", "rope_theta": 1e4},
        ),
        1.78,
    ),
    "qwen3-0.6b": (
        _qwen3(
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=28,
            num_attention_heads=16,
            tie_word_embeddings=True,
        ),
        0.6,
    ),
    "qwen3-1.7b": (
        _qwen3(
            hidden_size=2048,
            intermediate_size=6144,
            num_hidden_layers=28,
            num_attention_heads=16,
            tie_word_embeddings=True,
        ),
        1.72,
    ),
}
