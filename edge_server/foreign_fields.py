"""Fields that clients of other servers send and that moedge has no use for: which are let through, and with what.

A field that would change the answer is refused where it asks for that, and accepted where it says what is so anyway.
"""

from collections.abc import Mapping
from typing import Any

from moedge.edge_server.fields import Fields, bad_field

# Who asks, in which chat, for how long to keep what, where to send it, what to tell beside the answer: whatever they
# say, the answer is the same here.
HARMLESS = frozenset(
    (
        # OpenAI
        *("user", "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
        "service_tier",
        # llama.cpp, Ollama, LM Studio, vLLM
        *("cache_prompt", "id_slot", "slot_id", "timings_per_token", "return_progress", "keep_alive", "ttl"),
        *("request_id", "priority", "cache_salt"),
        # chat front ends, which name their own records
        *("session_id", "chat_id", "message_id", "conversation_id", "thread_id", "parent_message_id", "id"),
        *("background_tasks", "features", "variables", "model_item", "tool_ids", "filter_ids"),
        # routers of several providers
        *("provider", "route", "transforms", "usage", "cache_control", "reasoning_details"),
        # what tunes a sampler that is accepted below only while it is switched off
        *("mirostat_tau", "mirostat_eta", "dry_base", "dry_allowed_length", "dry_penalty_last_n"),
        *("dry_sequence_breakers", "xtc_threshold", "dynatemp_exponent", "smoothing_curve"),
    )
)

# Within messages, calls and tools: clients send back what they received, with notes of their own or of the service
# before us. Nothing of it is text.
NOTES = frozenset(
    (
        *("annotations", "cache_control", "index", "parsed", "parsed_arguments", "provider_specific_fields"),
        *("reasoning_details", "reasoning_signature", "thinking_blocks", "extra_content", "metadata"),
        *("id", "created", "timestamp", "finish_reason"),
    )
)

# Where only these values say what is so anyway.
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "n_probs": (0,),
    "prompt_logprobs": (0,),
    "echo": (False,),
    "suffix": ("",),
    "modalities": (["text"],),
    "verbosity": ("medium",),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "plugins": ([],),
    "models": ([],),
    "options": ({},),
    "format": ("",),
    "min_tokens": (0,),
    "min_length": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "include_stop_str_in_output": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "add_generation_prompt": (True,),
    "continue_final_message": (False,),
    "include_reasoning": (True,),
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "parse_tool_calls": (True,),
    "thinking_forced_open": (False,),
    "reasoning_format": ("auto", "deepseek"),
    "documents": ([],),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
    "post_sampling_probs": (False,),
    "safe_prompt": (False,),
    "vllm_xargs": ({},),
    "lora": ([],),
    "n_predict": (-1,),
    "n_keep": (0,),
    "n_indent": (0,),
    "min_keep": (0,),
    "penalize_nl": (False,),
    "t_max_predict_ms": (0, -1),
    "use_beam_search": (False,),
    "length_penalty": (1, 0),
    "early_stopping": (False,),
    "typical_p": (1,),
    "typ_p": (1,),
    "tfs": (1,),
    "tfs_z": (1,),
    "top_a": (0,),
    "top_n_sigma": (-1, 0),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "dry_multiplier": (0,),
    "xtc_probability": (0,),
    "dynatemp_range": (0,),
    "smoothing_factor": (0,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "no_repeat_ngram_size": (0,),
}


# How other servers switch thinking.
THINKING = ("enable_thinking", "thinking", "think")


def pass_foreign(fields: Fields) -> None:
    """Let through what changes nothing; ApiError 400 for what would change the answer.

    For the end of a request: what the endpoint reads itself must be taken before.
    """
    fields.ignore(HARMLESS)
    for name in fields.left:
        if name in NEUTRAL:
            fields.only(name, *NEUTRAL[name])
        elif name in THINKING:
            raise bad_field(name, "say it in reasoning_effort or chat_template_kwargs", code="unknown_parameter")
