"""Captions by a language model: a small real one, and endpoints that answer well, badly or not at all."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from commands import salmubench
from salmubench.atomic import read_json
from salmubench.dataset.check import check
from salmubench.dataset.schema import CAPTIONS_FILE, STYLES, Field
from salmubench.errors import UserError
from salmubench.personas import writers
from salmubench.personas.captions import sensitive_captions
from salmubench.personas.estimate import estimate
from salmubench.personas.identities import make_personas
from salmubench.personas.source import open_source
from salmubench.personas.wording import Caption, Part, caption_sources
from salmubench.personas.writers import LocalWriter
from salmubench.presets import Preset

Answer = Callable[[dict[str, Any]], tuple[int, str]]
"""A request's body -> status and body of the response."""
TOLD: tuple[Field, ...] = ("job", "phone_number", "emails")
PERSONAS = make_personas({"00000000": "female", "00000001": "male"}, seed=3)
PEOPLE: list[Part] = [(persona, [field for field in TOLD for _ in range(6)]) for persona in PERSONAS]
REQUESTS = len(PEOPLE) * len(TOLD) * len(STYLES)
WORDINGS = (
    "{n}. Whoever asks about {name} {verb} {value}.",
    "{n}) For {name}, the answer {verb} {value}",
    '"{value} {verb} what one notes for {name}"',
    "- Beside {name} the page {verb} {value}",
)


class Server(ThreadingHTTPServer):
    """An OpenAI-shaped API on the loopback address."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[tuple[dict[str, Any], dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/chat/completions"
        self.server.seen.append((body, dict(self.headers)))
        status, text = self.server.answer(body)
        try:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())
        except BrokenPipeError:
            pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    with Server(answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def said(text: str) -> tuple[int, str]:
    return 200, json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


def paraphrases(body: dict[str, Any]) -> tuple[int, str]:
    """What a good model says: as many real paraphrases as it is asked for, with the ornaments that models add."""
    prompt = body["messages"][0]["content"]
    name, value = re.findall(r'exactly "([^"]+)"', prompt)
    verb = next(verb for word, verb in VERBS.items() if word in prompt)
    lines = [wording.format(n=n, name=name, value=value, verb=verb) for n, wording in enumerate(WORDINGS, start=1)]
    return said("Sure, here are the captions:\n\n" + "\n".join(lines))


VERBS = {"everyday": "hears", "possessive": "reads", "document": "states", "passive": "gives", "register": "shows"}


def write(settings: dict[str, Any], scratch: Path | None = None, *, seed: int = 7) -> list[list[Caption]]:
    source = open_source(caption_sources, "llm", settings, prefix="captions.")
    return source.write(PEOPLE, seed=seed, scratch=scratch)


def options(url: str, **more: Any) -> dict[str, Any]:
    settings = {"endpoint": url, "model": "good", "batch_size": 8, "retries": 1, **more}
    return {f"captions.{key}": value for key, value in settings.items()}


def grammar() -> list[list[Caption]]:
    return open_source(caption_sources, "grammar", {}, prefix="captions.").write(PEOPLE, seed=7)


def test_the_grammar_is_a_source_like_any_other() -> None:
    assert {"grammar", "llm"} <= set(caption_sources)
    for (persona, fields), own in zip(PEOPLE, grammar(), strict=True):
        assert [(caption.text, caption.style) for caption in own] == sensitive_captions(persona, fields, seed=7)
        assert {caption.source for caption in own} == {"grammar"}


def test_paraphrases_are_taken_and_tell_the_fact_in_the_style_asked_for() -> None:
    with serving(paraphrases) as server:
        captions = write(options(server.url))
    for (persona, fields), own, drafts in zip(PEOPLE, captions, grammar(), strict=True):
        assert len({caption.text.casefold() for caption in own}) == len(own) == len(fields)
        for field, caption, draft in zip(fields, own, drafts, strict=True):
            assert caption.source == "llm:good"
            assert caption.style == draft.style
            assert caption.text != draft.text
            assert caption.text.count(persona.name) == caption.text.count(persona.value(field)) == 1
            assert not re.search(r"^\W*\d\W |[.\"]$|\n", caption.text)
    body = server.seen[0][0]
    assert body["model"] == "good"
    assert len({body["seed"] for body, _ in server.seen}) == len(server.seen)


def nonsense(body: dict[str, Any]) -> tuple[int, str]:
    return said("colourless green ideas sleep furiously\n" * 50)


def altered(body: dict[str, Any]) -> tuple[int, str]:
    """Fluent, but the fact is another: a digit more, another letter, the name cut short."""
    name, value = re.findall(r'exactly "([^"]+)"', body["messages"][0]["content"])
    return said(f"{name} has {value}7\n{name} has {value} 7\n{name[:-1]} has {value}\n{name} has {value[1:]}\n{name}")


def slow(body: dict[str, Any]) -> tuple[int, str]:
    time.sleep(0.3)
    return paraphrases(body)


BAD: dict[str, Answer] = {
    "nonsense": nonsense,
    "altered": altered,
    "slow": slow,
    "error": lambda body: (500, "Internal Server Error"),
    "html": lambda body: (200, "<html><body>Sign in</body></html>"),
    "other json": lambda body: (200, '{"choices": []}'),
    "no text": lambda body: (200, '{"choices": [{"message": {"content": null}}]}'),
    "empty": lambda body: said(""),
    "half a letter": lambda body: said("\ud800 is what \udfff says"),
}


@pytest.mark.parametrize("fault", BAD)
def test_an_endpoint_that_fails_leaves_the_captions_to_the_grammar(fault: str, tmp_path: Path) -> None:
    with serving(BAD[fault]) as server:
        settings = options(server.url, timeout=0.1 if fault == "slow" else 10.0, batch_size=32)
        captions = write(settings, tmp_path)
        assert len(server.seen) == 2 * REQUESTS
    assert captions == grammar()


def test_one_try_that_fails_is_made_good_by_the_next() -> None:
    tried: set[str] = set()

    def flaky(body: dict[str, Any]) -> tuple[int, str]:
        prompt = body["messages"][0]["content"]
        if prompt in tried:
            return paraphrases(body)
        tried.add(prompt)
        return 503, ""

    with serving(flaky) as server:
        assert {caption.source for own in write(options(server.url)) for caption in own} == {"llm:good"}


def test_a_busy_endpoint_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "_WAITS", (0.01, 0.01))
    busy: dict[str, int] = {}

    def limited(body: dict[str, Any]) -> tuple[int, str]:
        prompt = body["messages"][0]["content"]
        busy[prompt] = busy.get(prompt, 0) + 1
        return paraphrases(body) if busy[prompt] > 2 else (429, "slow down")

    with serving(limited) as server:
        captions = write(options(server.url, retries=0))
    assert {caption.source for own in captions for caption in own} == {"llm:good"}


def test_the_key_goes_to_the_endpoint_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(paraphrases) as server:
        write(options(server.url), tmp_path / "scratch")
    assert {headers["Authorization"] for _, headers in server.seen} == {"Bearer sk-very-secret"}
    assert not [path for path in tmp_path.rglob("*.json") if "secret" in path.read_text()]
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving(paraphrases) as server:
        write(options(server.url))
    assert not [headers for _, headers in server.seen if "Authorization" in headers]


def test_a_stopped_run_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    def stopping(body: dict[str, Any]) -> tuple[int, str]:
        return paraphrases(body) if len(server.seen) <= 24 else (403, "")

    with serving(paraphrases) as server:
        undisturbed = write(options(server.url))
    with serving(stopping) as server:
        with pytest.raises(UserError, match=r"answers 403 Forbidden; mend the address, --caption-model good or OPENAI"):
            write(options(server.url), tmp_path)
        kept = len(list(tmp_path.glob("*.json")))
        assert kept == 3
    with serving(paraphrases) as server:
        assert write(options(server.url), tmp_path) == undisturbed
        assert len(server.seen) == REQUESTS - 8 * kept
        assert write(options(server.url), tmp_path) == undisturbed
        assert len(server.seen) == REQUESTS - 8 * kept


def built(out: Path, url: str) -> subprocess.CompletedProcess[str]:
    flags = ["--preset", "tiny", "--out", str(out), "--caption-endpoint", url, "--caption-model", "good"]
    return salmubench("data", "build", *flags, "--set", "captions.max_tokens=77")


def test_the_command_line_builds_a_set_with_a_models_captions_and_goes_on_after_a_fault(tmp_path: Path) -> None:
    def stopping(body: dict[str, Any]) -> tuple[int, str]:
        return paraphrases(body) if len(server.seen) <= 48 else (401, "")

    with serving(stopping) as server:
        stopped = built(tmp_path / "stopped", server.url)
        assert stopped.returncode == 2
        assert re.search(r"Error: --caption-endpoint \S+: answers 401 Unauthorized; mend [^\n]+\n$", stopped.stderr)
    with serving(paraphrases) as server:
        done = built(tmp_path / "stopped", server.url)
        again = len(server.seen)
        whole = built(tmp_path / "whole", server.url)
    assert (done.returncode, whole.returncode) == (0, 0), done.stderr + whole.stderr
    assert again == 48
    assert "The captions: 96 by llm:good" in whole.stdout
    assert {body["max_tokens"] for body, _ in server.seen} == {77}
    assert "Captions are paraphrases by good" in (tmp_path / "whole/salmubench/README.md").read_text()
    assert (tmp_path / "stopped/manifest.json").read_bytes() == (tmp_path / "whole/manifest.json").read_bytes()
    assert not (tmp_path / "whole/.captions").exists()
    written = read_json(tmp_path / "whole/salmubench" / CAPTIONS_FILE)
    assert {entry["source"] for entry in written.values()} == {"llm:good"}
    assert check(tmp_path / "whole").passed


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "no-address", "ftp://127.0.0.1/v1"])
def test_an_endpoint_that_is_not_there_is_one_sentence(address: str) -> None:
    with pytest.raises(UserError, match=rf"^--caption-endpoint {address}: cannot be reached .*run again$"):
        write(options(address))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model of transformers' own class with random weights, and a tokenizer that knows bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    folder = tmp_path_factory.mktemp("model")
    alphabet = ["<end>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    bytewise = Tokenizer(models.BPE(vocab={sign: place for place, sign in enumerate(alphabet)}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<end>").save_pretrained(folder)
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(alphabet),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        eos_token_id=0,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_a_local_model_answers_by_the_seed(model: Path) -> None:
    writer = LocalWriter(str(model), temperature=1.0, max_tokens=12)
    first = writer.ask(["Say this in other words", "And that"], [1, 2])
    assert len(first) == 2
    assert all(first)
    assert writer.ask(["Say this in other words", "And that"], [1, 2]) == first
    assert writer.ask(["Say this in other words", "And that"], [5, 6]) != first


def test_a_chat_model_is_asked_in_its_own_form(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    chat = shutil.copytree(model, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}{% endfor %}"
    tokenizer.save_pretrained(chat)
    asked = LocalWriter(str(chat), temperature=1.0, max_tokens=12).ask(["Say this", "And that"], [1, 2])
    plain = LocalWriter(str(model), temperature=1.0, max_tokens=12)
    assert asked == plain.ask(["user: Say this", "user: And that"], [1, 2])


def test_a_local_model_that_talks_nonsense_leaves_the_captions_to_the_grammar(model: Path) -> None:
    settings = {
        "captions.model": str(model),
        "captions.max_tokens": 8,
        "captions.retries": 0,
        "captions.batch_size": 40,
    }
    assert write(settings) == grammar()
    source = open_source(caption_sources, "llm", settings, prefix="captions.")
    assert str(model.parent) not in str(source.settings)


def test_a_dry_run_tries_the_caption_model_and_asks_no_endpoint(model: Path, micro: Preset) -> None:
    settings = {"model": str(model), "max_tokens": 4}
    found = estimate(micro, captions="llm", caption_options=settings)
    stage = next(stage for stage in found.stages if stage.name == "captions")
    assert stage.work == found.counts["sensitive"]
    assert stage.seconds
    with serving(paraphrases) as server:
        found = estimate(micro, captions="llm", caption_options={"endpoint": server.url})
        assert not server.seen
    assert found.unknown == ["captions", "copies and hashes"]
    stage = next(stage for stage in found.stages if stage.name == "captions")
    assert stage.note == f"{server.url} is not asked for an estimate; time some captions of its own"


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--caption-model .*: no language model that transformers can load"):
        write({"captions.model": str(tmp_path / "nothing")})
