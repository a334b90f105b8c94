"""The page: what its fields take, what it shows, and how it is served."""

import json
import shlex
import socket
import sys
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from served import served

from unmask.base.errors import UserError
from unmask.cli.play import PlayArguments, _sample_command
from unmask.play.page import Player, watch
from unmask.play.request import FIELDS, Refused, Request, defaults, read_request
from unmask.play.server import address_of, open_socket
from unmask.play.trace import Alternative, Reveal, Trace, trace
from unmask.play.view import Frame, percent, view
from unmask.run import Run
from unmask.sample import SamplerOptions

Call = Callable[..., tuple[int, str]]


def request(run: Run, **fields: str) -> Request:
    return read_request({**defaults(), **fields}, [run])


class Page(HTMLParser):
    """Elements of a page and the text in those of a class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.open, self.texts = [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        kind = dict(attributes).get("class", "")
        self.tags.append(tag)
        self.open.append(kind)
        self.texts.append([kind, ""])

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if self.open:
            kind = self.open[-1]
            next(t for t in reversed(self.texts) if t[0] == kind)[1] += data

    def of(self, kind: str) -> list[str]:
        return [text for found, text in self.texts if found.split(" ")[0] == kind]


def byte_trace(text: str, prompt: int = 0) -> Trace:
    """As if a text of bytes had come from left to right."""
    ids = list(text.encode())
    reveals = [
        Reveal(n + 1, n + prompt, token, 0.25, (Alternative(65, 0.5), Alternative(60, 0.25)))
        for n, token in enumerate(ids[prompt:])
    ]
    return Trace([*ids[:prompt], *[257] * len(reveals)], reveals, len(reveals), text)


def test_nothing_is_asked_for_at_first_but_a_text_from_nothing(run: Run) -> None:
    assert request(run) == Request("", 32, SamplerOptions(), 0)


def test_without_a_length_there_is_as_much_as_fits(run: Run) -> None:
    assert request(run, text="the cat ").length == 24
    assert request(run, text="the cat ", length="3").length == 3


def test_of_two_runs_the_shorter_says_what_fits(run: Run) -> None:
    longer = Run(
        run.folder,
        run.config.model_copy(
            update={"corpus": run.config.corpus.model_copy(update={"block_size": 64})}
        ),
        run.tokenizer,
        run.model,
        run.checkpoint,
    )
    fields = {**defaults(), "text": "the cat "}
    assert read_request(fields, [longer]).length == 56
    assert read_request(fields, [longer, run]).length == 24


@pytest.mark.parametrize(
    "field, text, said",
    [
        ("text", "x" * 40, "more than the run's block size, 32"),
        ("text", "a[MASK*40]", "block size"),
        ("text", "a[MASK*0]", "no tokens"),
        ("text", "a\ud800", "part of a character"),
        ("length", "33", "between 1 and 32"),
        ("length", "0", "between 1 and 32"),
        ("length", "many", "whole number, not 'many'"),
        ("sampler", "gibbs", "valid: ancestral"),
        ("steps", "0", "at least 1"),
        ("steps", "", "whole number"),
        ("steps", "1e3", "whole number"),
        ("temperature", "-1", "0 or more"),
        ("temperature", "hot", "such as 0.8"),
        ("temperature", "nan", "such as 0.8"),
        ("top_p", "0", "(0, 1]"),
        ("top_p", "1.5", "(0, 1]"),
        ("block_length", "0", "at least 1"),
        ("block_length", "1.5", "whole number"),
        ("seed", "-1", "0 or more"),
        ("seed", str(2**63), "at most"),
        ("seed", "9" * 2000, "whole number"),
    ],
)
def test_what_is_wrong_is_told_of_its_field_alone(
    field: str, text: str, said: str, run: Run
) -> None:
    with pytest.raises(Refused) as refused:
        request(run, **{field: text})
    assert list(refused.value.fields) == [field] and said in refused.value.fields[field]
    sentences = Player([run], lambda *_: "").problems([*({**defaults(), field: text}).values()])
    (sentence,) = filter(None, sentences)
    assert sentences[FIELDS.index(field)] == sentence and sentence.endswith(".")
    assert "_" not in sentence


def test_all_that_is_wrong_is_told_at_once(run: Run) -> None:
    with pytest.raises(Refused) as refused:
        request(run, text="[MASK*0]", steps="x", top_p="7", length="99")
    assert set(refused.value.fields) == {"text", "steps", "top_p", "length"}


def test_a_causal_run_fills_no_gaps_and_has_no_use_for_a_sampler(trained) -> None:
    twin = trained("ar")
    with pytest.raises(Refused, match="fills no gaps"):
        request(twin, text="a[MASK]b")
    asked = request(twin, text="a", sampler="margin", temperature="0.5").for_run(twin)
    assert asked.options == SamplerOptions(temperature=0.5)


def test_what_a_model_writes_is_text_on_the_page(run: Run) -> None:
    text = "<b>&\x07\x1b[31m{{x}}${y}</div>\n"
    html = view(run, byte_trace(text, prompt=2), Frame(99, done=True))
    page = Page(html)
    assert "\x07" not in html and "\x1b" not in html
    assert {*page.tags} <= {"section", "header", "strong", "span", "div", "p", "b", "i", "s", "em"}
    assert page.of("given") == ["<", "b"]
    shown = ">|&|\\x07|\\x1b|[|3|1|m|{|{|x|}|}|$|{|y|}|<|/|d|i|v|>|↵\n"
    assert page.of("cell") == shown.split("|")


def test_a_recipe_and_a_problem_are_text_too(run: Run) -> None:
    html = view(run, Trace(), Frame(problem="<script>"))
    assert "<script>" not in html and Page(html).of("problem") == ["<script>"]


def test_a_step_shows_what_had_come_by_then(run: Run) -> None:
    early, late = (Page(view(run, byte_trace("abcdef"), Frame(step))) for step in (2, 6))
    assert early.of("cell") == ["a", "b"] and early.of("mask") == ["░"] * 4
    assert late.of("cell") == list("abcdef") and late.of("mask") == []
    assert "step 2, 4 masked" in early.of("progress")[0]


def test_alternatives_are_listed_with_the_token_that_came(run: Run) -> None:
    html = view(run, byte_trace("<z"), Frame(2, done=True))
    listed = [text for kind, text in Page(html).texts if kind.startswith("other")]
    assert len(listed) == 2 + 3  # < is among its alternatives, z is not
    assert html.count("other drawn") == 2
    assert html.count("<i>A</i>") == 2 and html.count("<em>50%</em>") == 2
    assert "<b>z</b> came at step 2; the model gave it 25%" in html
    assert "--step: 0.000; --certainty: 0.250" in html and "--step: 1.000" in html


def test_what_follows_a_document_is_beyond_it(run: Run) -> None:
    """For a run on padded blocks, whose text ends there."""
    padded = run.config.corpus.model_copy(update={"packing": "pad"})
    config = run.config.model_copy(update={"corpus": padded})
    of_documents = Run(run.folder, config, run.tokenizer, run.model, run.checkpoint)
    found = byte_trace("abcd")
    found.reveals[2] = Reveal(3, 2, run.tokenizer.separator_id, 0.5, ())
    assert view(run, found, Frame(4)).count('class="cell beyond"') == 0
    assert view(of_documents, found, Frame(4)).count('class="cell beyond"') == 2


@pytest.mark.parametrize(
    "p, text",
    [(1.0, "100%"), (0.999, "100%"), (0.5, "50%"), (0.0996, "10%"), (0.042, "4.2%"),
     (0.0042, "0.42%"), (0.00012, "0.0120%"), (3e-9, "3.0e-07%"), (0.0, "0%")],
)  # fmt: skip
def test_probabilities_have_two_digits(p: float, text: str) -> None:
    assert percent(p) == text


def test_texts_are_shown_on_their_way_and_whole_at_last(run: Run, trained) -> None:
    runs = [run, trained("bell")]
    asked = read_request({**defaults(), "steps": "8"}, runs)
    traces = [Trace(), Trace()]
    pictures = list(watch(runs, asked, traces, 0.5))
    assert 3 <= len(pictures) <= 12 and {len(picture) for picture in pictures} == {2}
    masks = [Page(left).of("mask") for left, _ in pictures]
    assert len(masks[0]) > len(masks[len(masks) // 2]) > len(masks[-1]) == 0
    assert 'data-done="no"' in pictures[0][0] and 'data-done="yes"' in pictures[-1][0]
    for each, into in zip(runs, traces, strict=True):
        again = Trace()
        trace(each, asked, again)
        assert into.reveals == again.reveals and into.text == again.text
    assert traces[0].text != traces[1].text


def test_a_text_that_is_stopped_says_so(run: Run) -> None:
    (picture,) = list(watch([run], request(run), [Trace(stopped=True)], 0))[-1]
    assert Page(picture).of("problem") == ["Stopped."]


def test_whoever_looks_away_stops_the_text(run: Run) -> None:
    into = Trace()
    pictures = watch([run], request(run, steps="1000000"), [into], 60)
    next(pictures)
    pictures.close()
    assert into.stopped and into.steps < 1000000


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"text": "-x 'the' \"<b>\"\n$HOME ", "length": "6", "seed": "7"},
        {"text": "--num", "sampler": "confidence", "steps": "3", "block_length": "5"},
        {"text": "the [MASK*4]\\[MASK] on", "temperature": "0.5", "top_p": "0.8", "seed": "3"},
    ],
)
def test_the_command_prints_the_same_text(fields: dict[str, str], run: Run, unmask: Call) -> None:
    asked, into = request(run, **fields), Trace()
    trace(run, asked, into)
    command = _sample_command(PlayArguments(run=run.folder))(run, asked)
    first, *arguments = shlex.split(command)
    assert first == "unmask"
    status, text = unmask(*arguments, "--json")
    assert status == 0 and json.loads(text)["text"] == into.text


def test_the_command_of_a_causal_run_and_another_checkpoint(trained, unmask: Call) -> None:
    twin, into = trained("ar"), Trace()
    asked = request(twin, text="the", seed="4", temperature="0.7", steps="9")
    trace(twin, asked, into)
    arguments = PlayArguments(run=twin.folder, checkpoint="30", device="cpu")
    command = _sample_command(arguments)(twin, asked)
    assert "--checkpoint 30" in command and "--device cpu" in command and "--steps" not in command
    status, text = unmask(*shlex.split(command)[1:], "--json")
    assert status == 0 and json.loads(text)["text"] == into.text


def test_without_the_extra_it_is_named(
    run: Run, unmask: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    status, text = unmask("play", run.folder)
    assert status == 2 and "unmask[play]" in text and text.count("\n") == 1


@pytest.mark.slow
def test_bad_requests_for_a_page(run: Run, unmask: Call, tmp_path) -> None:
    pytest.importorskip("gradio")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, said in (
            ([tmp_path], "not a run"),
            ([run.folder, tmp_path], "not a run"),
            ([run.folder, "--port", port], f"--port: port {port} of 127.0.0.1 is taken"),
            ([run.folder, "--port", 70000], "--port: "),
            ([run.folder, "--host", "nowhere.invalid"], "--host: cannot listen"),
            ([run.folder, "--port", 0, "--checkpoint", "7"], "among 30"),
            ([run.folder, "--port", 0, "--device", "tpu"], "valid: auto, cpu"),
        ):
            status, text = unmask("play", *options)
            assert status == 2 and said in text, text


def test_a_taken_port_is_passed_over_where_none_is_named() -> None:
    with open_socket("127.0.0.1", None) as first, open_socket("127.0.0.1", None) as second:
        assert first.getsockname()[1] < second.getsockname()[1]
        assert address_of(first).startswith("http://127.0.0.1:78")
    with pytest.raises(UserError, match="host"):
        open_socket("192.0.2.1", None)


def ask(address: str, values: list[object]) -> list[dict]:
    """Press the button, as the page does; what comes back until that is done."""
    import httpx

    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        listed = client.get("config").json()["dependencies"]
        (number,) = [d["id"] for d in listed if len(d["inputs"]) == 9 and len(d["outputs"]) > 1]
        body = {"data": values, "fn_index": number, "session_hash": "s"}
        joined = client.post("gradio_api/queue/join", json=body)
        if joined.status_code != 200:
            return [joined.json()]
        events = []
        with client.stream("GET", "gradio_api/queue/data?session_hash=s") as lines:
            for line in lines.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line.removeprefix("data:")))
                    if events[-1]["msg"] == "close_stream":
                        break
        return events


def test_the_page_is_served_and_answers(run: Run) -> None:
    pytest.importorskip("gradio")
    import httpx

    with served([run]) as address:
        page = httpx.get(address, trust_env=False)
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "fonts.g" not in page.text and '"analytics_enabled":false' in page.text
        assert "fonts.g" not in httpx.get(f"{address}theme.css", trust_env=False).text
        good = [*{**defaults(), "text": "the cat ", "seed": "3"}.values(), 0]
        events = ask(address, good)
        refused = ask(address, [*{**defaults(), "steps": "0"}.values(), 0])
    into = Trace()
    trace(run, request(run, text="the cat ", seed="3"), into)
    (done,) = [event for event in events if event["msg"] == "process_completed"]
    assert done["success"] and into.text in done["output"]["data"]
    assert "Steps must be at least 1" in json.dumps(refused)


def test_it_answers_to_this_machine_s_names_alone(run: Run) -> None:
    """A page elsewhere whose name was made to point here gets nothing."""
    import httpx

    with served([run]) as address, httpx.Client(base_url=address, trust_env=False) as client:
        port = address.rstrip("/").rpartition(":")[2]
        for host, status in (
            (f"127.0.0.1:{port}", 200),
            (f"localhost:{port}", 200),
            (f"[::1]:{port}", 200),
            ("elsewhere.example", 400),
        ):
            assert client.get("config", headers={"host": host}).status_code == status
