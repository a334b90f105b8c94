"""The page: its fields, what pressing its buttons does, and what is shown meanwhile."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from unmask.base.errors import UserError
from unmask.diffusion.sampler import SAMPLERS
from unmask.play.request import FIELDS, Refused, Request, defaults, read_request
from unmask.play.trace import Stopped, Trace, trace
from unmask.play.view import Frame, view
from unmask.plot.page import render
from unmask.run import Run

if TYPE_CHECKING:
    from gradio import Blocks

Command = Callable[[Run, Request], str]
"""What one would type for the same text of a run."""

_FRAME = 0.05  # seconds, the least between two pictures
_SECONDS = 5  # that a text takes to be shown, if it is drawn in less
# On an element of the page's own: the library lets style sheets see no more.
_COLOUR = "(choice) => { document.querySelector('.unmask-body').dataset.colour = choice; }"


def watch(
    runs: Sequence[Run], request: Request, traces: Sequence[Trace], seconds: float
) -> Iterator[list[str]]:
    """Draw a text of each run, all at once, and give pictures of them on their way.

    Args:
        runs: who is asked.
        request: for what.
        traces: a new one for each run, which its text is noted in.
        seconds: how long it is shown at least; no step is shown before its time.

    Yields:
        HTML for each run, again and again; at last all of it, with what ended a text early.
    """
    with ThreadPoolExecutor(len(runs)) as pool:
        try:
            drawn = [
                pool.submit(trace, run, request, into)
                for run, into in zip(runs, traces, strict=True)
            ]
            yield from _pictures(runs, request, traces, drawn, seconds)
        finally:
            for into in traces:
                into.stop()  # or its thread would go on where nobody looks any more


def _pictures(
    runs: Sequence[Run],
    request: Request,
    traces: Sequence[Trace],
    drawn: "Sequence[Future[None]]",
    seconds: float,
) -> Iterator[list[str]]:
    began, shown = time.monotonic(), -1
    while True:
        done = all(text.done() for text in drawn)
        last = max(into.steps for into in traces)
        total = last if done else max(last, request.options.steps)
        now = time.monotonic() - began
        step = last if now >= seconds else min(last, int(total * now / seconds))
        if done and (step == last or any(into.stopped for into in traces)):
            break
        if step > shown and all(into.start for into in traces):
            yield [view(run, into, Frame(step)) for run, into in zip(runs, traces, strict=True)]
            shown = step
        time.sleep(_FRAME)
    yield [
        view(run, into, Frame(into.steps, done=True, problem=_problem(text)))
        for run, into, text in zip(runs, traces, drawn, strict=True)
    ]


def _problem(text: "Future[None]") -> str | None:
    """What ended a text early, as a sentence."""
    error = text.exception()
    if error is None:
        return None
    if isinstance(error, Stopped):
        return "Stopped."
    if isinstance(error, UserError):
        return str(error)
    raise error


class Player:
    """Answers what is done on the page.

    Args:
        runs: one, or two that are shown side by side.
        command: tells what is shown to be copied under each text.
    """

    def __init__(self, runs: Sequence[Run], command: Command) -> None:
        self.runs = runs
        self._command = command

    def problems(self, values: Sequence[str]) -> list[str]:
        """A sentence for each of `FIELDS`; empty where there is nothing wrong with it."""
        try:
            self._read(values)
        except Refused as refused:
            return [_sentence(refused.fields.get(name, "")) for name in FIELDS]
        return [""] * len(FIELDS)

    def commands(self, values: Sequence[str]) -> list[str]:
        """What would print each run's text."""
        request = self._read(values)
        return [self._command(run, request.for_run(run)) for run in self.runs]

    def watch(
        self, values: Sequence[str], traces: Sequence[Trace], seconds: float
    ) -> Iterator[list[str]]:
        """Pictures of texts on their way, as `watch` gives them."""
        return watch(self.runs, self._read(values), traces, seconds)

    def look_back(self, traces: Sequence[Trace], step: int) -> list[str]:
        """Pictures of finished texts after a step."""
        return [
            view(run, into, Frame(step, done=True))
            for run, into in zip(self.runs, traces, strict=True)
        ]

    def _read(self, values: Sequence[str]) -> Request:
        return read_request(dict(zip(FIELDS, values, strict=True)), self.runs)


def build(player: Player) -> "Blocks":
    """The page."""
    import gradio as gr  # noqa: PLC0415

    count = len(player.runs)
    with gr.Blocks(title="unmask play", analytics_enabled=False, fill_width=True) as page:
        traces = gr.State([])
        with gr.Row():
            prompt = _prompt(player.runs)
            with gr.Column(scale=1, min_width=90):
                start = gr.Button("Unmask", variant="primary", elem_id="start")
                stop = gr.Button("Stop", elem_id="stop")
        problems = gr.HTML(elem_id="problems")
        with gr.Row(elem_classes="unmask-body"):
            with gr.Column(scale=2, min_width=300):
                fields = [prompt, *_settings(player.runs)]
                seconds = gr.Slider(
                    0, 60, _SECONDS, step=1, label="Seconds to watch", buttons=[], elem_id="seconds"
                )
                colour = gr.Radio(
                    [("step they came at", "step"), ("model's certainty", "certainty")],
                    value="step",
                    label="Colour tokens by the",
                    elem_id="colour",
                )
            with gr.Column(scale=5):
                gr.HTML(render("play/legend.html").decode())
                step = gr.Slider(
                    0, 1, 0, step=1, label="Step", interactive=False, buttons=[], elem_id="step"
                )
                with gr.Row():
                    panels = [_panel(player, number) for number in range(count)]
        views, texts, commands = map(list, zip(*panels, strict=True))

        def show(*given: Any) -> Iterator[dict[Any, Any]]:
            *values, pace = given
            new = [Trace() for _ in player.runs]
            lines = player.commands(values)
            yield {
                traces: new,
                step: gr.Slider(interactive=False),
                **dict.fromkeys(texts, ""),
                **dict(zip(commands, lines, strict=True)),
            }
            for pictures in player.watch(values, new, pace):
                yield dict(zip(views, pictures, strict=True))
            last = max(into.steps for into in new)
            yield {
                step: gr.Slider(value=last, maximum=max(last, 1), interactive=last > 0),
                **{box: into.text or "" for box, into in zip(texts, new, strict=True)},
            }

        def check(*given: Any) -> list[Any]:
            found = [*player.problems(given[:-1]), ""]
            return [gr.validate(not problem, problem) for problem in found]

        def tell(*given: Any) -> str:
            return render("play/problems.html", problems=player.problems(given)).decode()

        def end(shown: list[Trace]) -> None:
            for into in shown:
                into.stop()

        private: Any = {"api_visibility": "private", "show_progress": "hidden"}
        triggers = [start.click, prompt.submit]
        gr.on(triggers, tell, fields, problems, queue=False, **private)
        gr.on(
            triggers,
            show,
            [*fields, seconds],
            [traces, step, *views, *texts, *commands],
            validator=check,
            concurrency_limit=None,
            **private,
        )
        stop.click(end, traces, None, concurrency_limit=None, **private)
        step.input(player.look_back, [traces, step], views, **private)
        colour.change(None, colour, None, js=_COLOUR)
    built: Blocks = page
    return built


def _sentence(problem: str) -> str:
    """What is wrong with a field, by the name it has on the page."""
    named = problem.replace("block_length", "block length").replace("top_p", "top-p")
    return f"{named[:1].upper()}{named[1:]}." if named else ""


def _prompt(runs: Sequence[Run]) -> Any:
    """The field that the text begins with."""
    import gradio as gr  # noqa: PLC0415

    gaps = "" if any(run.model.causal for run in runs) else " [MASK*16] is a gap of 16 tokens."
    return gr.Textbox(
        defaults()["text"],
        label="Prompt",
        info=f"What the text begins with, or nothing.{gaps}",
        lines=2,
        max_lines=12,
        scale=6,
        elem_id="text",
    )


def _settings(runs: Sequence[Run]) -> list[Any]:
    """The other fields, in the order of `FIELDS`; what no run has a use for is hidden."""
    import gradio as gr  # noqa: PLC0415

    given = defaults()
    steps_apply = not all(run.model.causal for run in runs)

    def box(name: str, label: str, hint: str = "", visible: bool = True) -> Any:
        return gr.Textbox(
            given[name],
            label=label,
            placeholder=hint,
            visible=visible,
            elem_id=name,
            min_width=120,
        )

    with gr.Row():
        length = box("length", "Length", "what fits")
        seed = box("seed", "Seed")
    with gr.Row(visible=steps_apply):
        sampler = gr.Dropdown(
            [*SAMPLERS],
            value=given["sampler"],
            label="Sampler",
            filterable=False,
            elem_id="sampler",
            min_width=120,
        )
        steps = box("steps", "Steps")
    with gr.Row():
        temperature = box("temperature", "Temperature")
        top_p = box("top_p", "Top-p")
    block_length = box("block_length", "Block length", "all together", steps_apply)
    return [length, sampler, steps, temperature, top_p, block_length, seed]


def _panel(player: Player, number: int) -> tuple[Any, Any, Any]:
    """Where a run's text, as it comes and as it is, and its command are shown."""
    import gradio as gr  # noqa: PLC0415

    run = player.runs[number]
    with gr.Column(min_width=320):
        picture = gr.HTML(view(run, Trace(), Frame()), elem_id=f"view-{number}")
        text = gr.Textbox(
            label="Text",
            lines=2,
            max_lines=8,
            interactive=False,
            buttons=["copy"],
            elem_id=f"text-{number}",
            elem_classes="unmask-text",
        )
        command = gr.Textbox(
            label="The same on the command line",
            max_lines=6,
            interactive=False,
            buttons=["copy"],
            elem_id=f"command-{number}",
            elem_classes="unmask-command",
        )
    return picture, text, command
