"""The HTTP engine against a real server in another process, which answers, refuses, hangs and dies as it is told."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from scripted_process import Endpoint, free_port, started

from presafe.config import Decoding, PrefixSettings
from presafe.conversation import Turn
from presafe.engines.engine import Completion, Query
from presafe.engines.http_engine import HttpEngine
from presafe.errors import UserError
from presafe.judges.prefixes import prefix_judge
from scripted_endpoint import KEY, MEETING, REFUSAL, RETRY_AFTER_S, UNSAFE

SAMPLED = Decoding(temperature=0.7, top_p=0.9, max_new_tokens=50)
DECIDED = prefix_judge(PrefixSettings(refusal_prefixes=["I am sorry"])).decided


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    with started() as (running, _):
        yield running


@pytest.fixture
def endpoint(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    """The server with an empty memory."""
    monkeypatch.setenv("SCRIPTED_KEY", KEY)
    httpx.delete(f"{server.url}/log").raise_for_status()
    return server


def generate(engine: HttpEngine, *prompts: str, **query: Any) -> list[Completion]:
    return engine.generate([Query(prompt, query.get("cot", "off")) for prompt in prompts], SAMPLED, 3)


def test_a_request_carries_sampling_key_and_the_fields_that_turn_cot_on_and_off(endpoint):
    engine = endpoint.engine(cot_on={"chat_template_kwargs": {"enable_thinking": True}})
    generate(engine, "ok on", cot="on")
    generate(engine, "ok off")
    on, off = endpoint.requests()
    assert [r["body"]["chat_template_kwargs"]["enable_thinking"] for r in (on, off)] == [True, False]
    wanted = {"model": "scripted", "temperature": 0.7, "top_p": 0.9, "max_tokens": 50}
    assert {key: off["body"][key] for key in wanted} == wanted
    assert off["authorization"] == f"Bearer {KEY}"


def test_a_request_carries_every_turn_and_its_length_is_that_of_all(endpoint):
    earlier: list[Turn] = [{"role": "system", "content": "ok now"}, {"role": "user", "content": "x" * 60}]
    earlier.append({"role": "assistant", "content": "y"})
    query = Query("go on", "off", earlier=earlier)
    (completion,) = endpoint.engine().generate([query], SAMPLED, 3)
    assert completion.error is None
    assert endpoint.requests()[0]["body"]["messages"] == [*earlier, {"role": "user", "content": "go on"}]
    (refused,) = endpoint.engine(max_prompt_characters=70).generate([query], SAMPLED, 3)
    assert refused.error == "prompt of 72 characters; the engine takes 70"


def test_a_guard_gets_a_conversation_that_ends_in_the_answer_it_judges(endpoint):
    asked: list[Turn] = [{"role": "user", "content": "ok"}]
    queries = [Query(answer, "off", earlier=asked, role="assistant") for answer in (UNSAFE, "four")]
    assert [one.answer for one in endpoint.engine().generate(queries, SAMPLED, 3)] == ["unsafe\nS1", "safe"]
    sent = sorted(str(request["body"]["messages"]) for request in endpoint.requests())
    assert sent == sorted(str([*asked, {"role": "assistant", "content": answer}]) for answer in (UNSAFE, "four"))


def test_an_unset_key_sends_none(endpoint, monkeypatch):
    monkeypatch.delenv("SCRIPTED_KEY")
    generate(endpoint.engine(), "ok")
    assert endpoint.requests()[0]["authorization"] is None


def test_samples_draw_with_seeds_of_their_own_and_a_rerun_with_the_same(endpoint):
    queries = [Query("ok", "off", sample) for sample in range(3)]
    for _ in range(2):
        endpoint.engine(concurrency=1).generate(queries, SAMPLED, 3)
    endpoint.engine().generate(queries[:1], SAMPLED, 4)
    seeds = [request["body"]["seed"] for request in endpoint.requests()]
    assert seeds[:3] == seeds[3:6]
    assert len(set(seeds)) == 4


def test_reasoning_comes_from_its_field_or_from_tags_and_usage_counts_the_tokens(endpoint):
    prompts = ["reasoning", "reasoning_content", "tags", "half"]
    for completion in generate(endpoint.engine(), *prompts, cot="on"):
        assert completion == Completion("well", REFUSAL, "stop", 7)
    unclosed, plain = generate(endpoint.engine(), "unclosed", "ok", cot="on")
    assert (unclosed.reasoning, unclosed.answer, unclosed.finish_reason) == ("well", "", "length")
    assert plain == Completion("", REFUSAL, "stop", 7)


def test_an_answer_that_the_endpoint_cut_says_why(endpoint):
    long, filtered = generate(endpoint.engine(), "length", "content_filter")
    assert (long.finish_reason, long.error) == ("length", None)
    assert (filtered.answer, filtered.finish_reason, filtered.error) == ("", "filtered", None)


@pytest.mark.parametrize("failure", ["500", "429", "drop", "garbage", "error200", "nochoice", "detail"])
def test_what_may_pass_is_retried(endpoint, failure):
    prompt = f"{failure} ok"
    assert generate(endpoint.engine(), prompt) == [Completion("", REFUSAL, "stop", 7)]
    assert len(endpoint.requests(prompt)) == 2


def test_a_request_that_hangs_is_given_up_and_retried(endpoint):
    assert generate(endpoint.engine(timeout_s=0.5), "hang ok")[0].error is None
    (completion,) = generate(endpoint.engine(timeout_s=0.5, max_retries=0), "hang")
    assert completion.error.startswith("APITimeoutError")


def test_retry_after_is_waited_for(endpoint):
    generate(endpoint.engine(), "429 ok")
    first, second = endpoint.requests()
    assert second["at"] - first["at"] >= RETRY_AFTER_S


def test_a_request_that_finally_fails_is_its_rows_error_and_costs_no_other(endpoint):
    bad, broken, good = generate(endpoint.engine(max_retries=2), "400", "500", "ok")
    assert bad.error.startswith("BadRequestError")
    assert "this is 400" in bad.error
    assert broken.error.startswith("InternalServerError")
    assert (bad.answer, good.answer, good.error) == ("", REFUSAL, None)
    assert [len(endpoint.requests(word)) for word in ("400", "500", "ok")] == [1, 3, 1]


def test_empty_and_long_prompts_are_never_sent(endpoint):
    empty, blank, long, good = generate(endpoint.engine(max_prompt_characters=5), "", " \n ", "ok ok ok", "ok")
    assert empty.error == blank.error == "empty prompt"
    assert long.error == "prompt of 8 characters; the engine takes 5"
    assert good.error is None
    assert len(endpoint.requests()) == 1


def test_as_many_requests_are_in_flight_as_the_setting_says(endpoint):
    """Requests are answered in fours, once four are there: fewer in flight would wait for ever."""
    completions = generate(endpoint.engine(concurrency=MEETING), *[f"meet {k}" for k in range(3 * MEETING)])
    assert [completion.error for completion in completions] == [None] * 3 * MEETING
    assert max(request["open"] for request in endpoint.requests()) == MEETING


def test_the_pool_shares_the_rate_limit_and_retries_count(endpoint):
    generate(endpoint.engine(num_workers=2, requests_per_minute=600), *[f"500 ok {k}" for k in range(3)])
    times = sorted(request["at"] for request in endpoint.requests())
    assert len(times) == 6
    assert times[-1] - times[0] >= 5 * 0.2 - 0.05  # 300 a minute are five a second


def test_a_decided_answer_closes_its_stream_and_the_endpoint_stops(endpoint):
    queries = [Query("endless", "off", stop_early=True), Query("ok", "off", stop_early=True), Query("ok ok", "off")]
    decided, short, full = endpoint.engine().generate(queries, SAMPLED, 3, DECIDED)
    assert decided == short == Completion("", "I am sorry,", "decided", 3)
    assert full == Completion("", REFUSAL, "stop", 7)
    endpoint.wait_until(lambda: (sent := sent_chunks(endpoint)) == sent_chunks_later(endpoint) and sent < 1000)


def sent_chunks(endpoint: Endpoint) -> int:
    return int(endpoint.requests("endless")[0]["sent"])


def sent_chunks_later(endpoint: Endpoint) -> int:
    time.sleep(0.1)
    return sent_chunks(endpoint)


@pytest.mark.parametrize("prompt", ["reasoning", "tags", "half"])
def test_reasoning_decides_nothing_and_an_undecided_stream_ends_by_itself(endpoint, prompt):
    query = Query(prompt, "on", stop_early=True)
    (completion,) = endpoint.engine().generate([query], SAMPLED, 3, DECIDED)
    assert (completion.reasoning, completion.answer) == ("well", "I am sorry,")
    (undecided,) = endpoint.engine().generate([query], SAMPLED, 3, lambda _: False)
    assert undecided == Completion("well", REFUSAL, "stop", 7)


def test_a_stream_that_breaks_is_begun_again(endpoint):
    (completion,) = endpoint.engine().generate([Query("cut ok", "off", stop_early=True)], SAMPLED, 3, DECIDED)
    assert completion.answer == "I am sorry,"
    assert endpoint.requests()[0]["sent"] == 2


@pytest.mark.parametrize("odd", ["error200", "nochoice", "detail", "garbage", "400", "500"])
def test_an_odd_answer_costs_its_row_even_where_nothing_else_came(endpoint, odd):
    (row,) = generate(endpoint.engine(max_retries=0), odd)
    assert row.error
    assert "\n" not in row.error


def test_a_filter_and_a_refusal_are_what_they_mean_and_cost_no_retry(endpoint):
    filtered, refused, parts = generate(endpoint.engine(), "filter", "refusal", "parts")
    assert filtered == Completion("", "", "filtered", 0)
    assert refused == Completion("", REFUSAL, "refused", 7)
    assert parts == Completion("well", REFUSAL, "stop", 7)
    assert len(endpoint.requests()) == 3


def test_a_streamed_refusal_that_is_called_one_is_not_stopped_early(endpoint):
    (refused,) = endpoint.engine().generate([Query("refusal", "off", stop_early=True)], SAMPLED, 3, DECIDED)
    assert refused == Completion("", REFUSAL, "refused", 7)


def test_an_endpoint_that_asks_for_the_other_limit_gets_it_from_then_on(endpoint):
    engine = endpoint.engine(concurrency=1, max_retries=0)
    assert [row.error for row in generate(engine, "new_limit 1", "new_limit 2", "new_limit 3")] == [None] * 3
    limits = [[name for name in request["body"] if name.startswith("max_")] for request in endpoint.requests()]
    assert limits == [["max_tokens"], *[["max_completion_tokens"]] * 3]


def test_a_field_that_the_endpoint_refuses_is_named_and_can_be_left_out(endpoint):
    with pytest.raises(UserError, match=r"'temperature' is not supported.*add temperature to its `omit`"):
        generate(endpoint.engine(), "refused_field")
    generate(endpoint.engine(omit=["temperature", "seed"]), "ok")
    assert endpoint.requests("ok")[0]["body"].keys() == {
        "model",
        "messages",
        "top_p",
        "max_tokens",
        "chat_template_kwargs",
    }


def test_a_web_page_costs_a_retry_once_the_endpoint_has_answered(endpoint):
    engine = endpoint.engine()
    good, page = generate(engine, "ok", "500 html ok")
    assert (good.error, page.error) == (None, None)


def test_an_endpoint_that_does_not_stream_is_asked_again(endpoint):
    (whole,) = endpoint.engine().generate([Query("unstreamed", "off", stop_early=True)], SAMPLED, 3, DECIDED)
    assert whole == Completion("", REFUSAL, "stop", 7)


def test_a_stream_without_an_end_is_begun_again(endpoint):
    query = Query("endingless ok", "off", stop_early=True)
    assert endpoint.engine().generate([query], SAMPLED, 3, lambda _: False) == [Completion("", REFUSAL, "stop", 7)]


@pytest.mark.parametrize("fatal", ["404", "403", "quota", "html"])
def test_what_no_prompt_can_mend_fails_the_job_in_one_sentence(endpoint, fatal):
    with pytest.raises(UserError, match="needed model 'scripted' at") as failure:
        generate(endpoint.engine(), fatal)
    assert "\n" not in str(failure.value)
    assert len(endpoint.requests()) == 1


def test_a_gateway_that_forbids_one_prompt_costs_that_prompt(endpoint):
    forbidden, good = generate(endpoint.engine(), "403", "ok")
    assert forbidden.error.startswith("PermissionDeniedError")
    assert good.error is None


def test_a_wrong_key_or_url_is_found_at_the_start(endpoint, monkeypatch):
    with pytest.raises(UserError, match="APIConnectionError"):
        endpoint.engine(base_url=f"http://127.0.0.1:{free_port()}/v1", max_retries=1)
    monkeypatch.setenv("SCRIPTED_KEY", "wrong")
    with pytest.raises(UserError, match=r"401.*SCRIPTED_KEY"):
        endpoint.engine()


def test_an_endpoint_that_dies_fails_the_job_rather_than_its_rows():
    with started() as (running, process):
        engine = running.engine(max_retries=1)
        assert generate(engine, "ok")[0].error is None
        process.kill()
        process.wait()
        with pytest.raises(UserError, match="APIConnectionError"):
            generate(engine, "ok", "ok")
