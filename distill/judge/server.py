"""One OpenAI-compatible server: how it is asked, what its refusals mean, and where its key is kept from."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from distill.errors import LabelError
from distill.judge.rate_limit import retry_after
from distill.judge.records import OPENAI_URL, Asking, host_of
from distill.judge.replies import fault_in
from distill.judge.rubric import SCHEMA, response_formats
from distill.settings import DEFAULT_KEY
from distill.wire import TooMuchError, client_for, striking

if TYPE_CHECKING:
    from openai import APIConnectionError, APIStatusError

_T = TypeVar("_T")

_NO_KEY = "no-key-needed"

NO_CONNECTION = "no_connection"
"""The reason of a call that reached no server."""

Kind = Literal["busy", "failed", "lost", "refused", "adapt"]
_BUSY = (429, 503, 529)
_FATAL = {
    401: "the server refuses the key in {key}",
    402: "the account has no credit left",
    403: "the server forbids this to the key in {key}",
    404: "the server knows no such model or path; check --model and --base-url (it often ends in /v1)",
}
_OF_DIALOGUE = (
    *("context_length", "context length", "context size", "too long", "too many tokens", "reduce the length"),
    *("content_filter", "content management", "moderation", "flagged", "safety"),
)
"""What refusals of one dialogue say: it is too long, or a filter wants none of it."""
_OF_REPLY = ("json_validate_failed", "failed to generate json", "failed to validate json")
"""What a server says that could not make the model keep to a schema: another attempt may."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a question is asked: the number of a format, the name of the limit of tokens, and what goes with them.

    ``alternatives`` are those of each token that are wanted with their log-probabilities; 0 wants none.
    """

    limit: str
    format: int = 0
    temperature: bool = True
    system: bool = True
    alternatives: int = 0
    swapped: bool = False  # the limit's other name was tried
    alone: bool = False  # of one question, after the server has answered in another form


@dataclass(eq=False)
class CallError(Exception):
    """A call brought no answer, for a ``reason`` in snake_case; ``wait`` are the seconds that the server asks for.

    ``kind`` is what to do: "busy", everybody waits; "failed", ask again, nothing was billed; "lost", ask again, it may
    have been billed; "refused", this question is not answered; "adapt", ask again at once, in plainer terms.
    ``simpler`` is a form in which this question may be tried, where the form was or may have been the cause. ``own``
    says that the dialogue is the cause: it is too long, or a filter wants none of it.
    """

    kind: Kind
    reason: str
    detail: str
    wait: float | None = None
    simpler: Form | None = None
    own: bool = False


def clean_url(base_url: str | None) -> str:
    """Return a base URL in its one spelling; LabelError if it is none, or holds what must not be stored."""
    url = (base_url or OPENAI_URL).strip().rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise LabelError(f"--base-url {url!a}: expected http(s)://HOST/PATH, as https://api.openai.com/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise LabelError(
            f"--base-url of {parts.hostname}: has a user, password, query or fragment, which would be stored with the "
            "labels; give the key in the environment"
        )
    return url


def find_key(base_url: str, name: str) -> str:
    """Return the key in the environment variable ``name``; only a server other than OpenAI's may do without."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise LabelError(f"{name} holds characters that no key has (a line break, a space or an accent); set it again")
    if key:
        return key
    if base_url == OPENAI_URL or name != DEFAULT_KEY:
        raise LabelError(f"{name} is not set; put the key of {host_of(base_url)} into that environment variable")
    return _NO_KEY


_FORMATS = response_formats(SCHEMA)

ALTERNATIVES = 20
"""OpenAI, vLLM and llama.cpp give the log-probabilities of so many alternatives at most, unless told otherwise."""
_FEWER = 5
_TOO_MANY = re.compile(r"logprobs.*(?:greater|exceed|at most|less|range|max|above|between|<=)")

_OTHER_LIMIT = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


class Endpoint:
    """A server and how it wants to be asked; whoever made it closes its ``client``."""

    def __init__(
        self, asking: Asking, key_name: str, timeout: float, *, logprobs: bool = True, schema: dict[str, Any] = SCHEMA
    ) -> None:
        """Read the key; ``timeout`` are the seconds that a call may take in all, from the first byte to the last."""
        from openai import AsyncOpenAI  # half a second that other commands need not cost

        self.asking = asking
        self._formats = response_formats(schema)
        self._timeout = timeout
        self._key_name = key_name
        self._key = find_key(asking.base_url, key_name)
        self.redact = striking(self._key)
        self.client = AsyncOpenAI(
            api_key=self._key, base_url=asking.base_url, max_retries=0, timeout=timeout, http_client=client_for(timeout)
        )
        new = asking.base_url == OPENAI_URL or host_of(asking.base_url).endswith(".azure.com")
        limit = "max_completion_tokens" if new else "max_tokens"
        self._form = Form(limit, alternatives=ALTERNATIVES if logprobs else 0)
        self.counts = False  # whether the server has shown that it counts tokens
        self._proven: Form | None = None  # the form in which the server has answered
        self.say: Callable[[str], None] = lambda _: None  # told what is given up

    def body(self, messages: Sequence[Mapping[str, str]], form: Form | None = None) -> dict[str, Any]:
        """Return the request of one question, in the form that the server takes as far as is known."""
        form = form or self._form
        body: dict[str, Any] = {
            "model": self.asking.model,
            "messages": list(messages) if form.system else _folded(messages),
            form.limit: self.asking.max_tokens,
        }
        if form.temperature:
            body["temperature"] = self.asking.temperature
        if form.alternatives:
            body |= {"logprobs": True, "top_logprobs": form.alternatives}
        response_format = self._formats[form.format]
        return body if response_format is None else {**body, "response_format": response_format}

    async def ask(self, messages: Sequence[Mapping[str, str]], simpler: Form | None = None) -> str:
        """Return the body of the answer; CallError says what to do without one, LabelError that no call can succeed.

        ``simpler`` is a form to try with this question; if it is the first that is answered, all are asked so.
        """
        used = simpler if simpler is not None and (self._proven is None or simpler.alone) else self._form

        async def call() -> str:
            async with asyncio.timeout(self._timeout):
                # All of the request goes as extra_body: to walk it by its types costs the client a third of its time,
                # and to make objects of the answer another part.
                answer = await self.client.chat.completions.with_raw_response.create(
                    model=self.asking.model, messages=[], extra_body=self.body(messages, used)
                )
            return answer.content.decode(errors="replace")

        body = self.redact(await self.guarded(call, used))
        if (fault := fault_in(body)) is not None:
            status, said = fault
            raise self._meaning(status, self._line(said), "", {}, used)
        if self._proven is None:
            if lost := _lost(self._form, used):
                self.say(f"asked without {lost}, since the server answers only so")
            self._form = self._proven = used
        return body

    async def guarded(self, call: Callable[[], Awaitable[_T]], used: Form | None = None) -> _T:
        """Make a call to the client; every fault is a CallError or, if no call can succeed, a LabelError.

        ``used`` is the form of the request, where a refusal may be of the form.
        """
        from openai import APIConnectionError, APIStatusError

        try:
            return await call()
        except TimeoutError:
            raise CallError("lost", "timeout", f"no whole answer within {self._timeout:g} s") from None
        except TooMuchError as error:
            raise CallError("lost", "too_much", self._line(str(error))) from None
        except APIStatusError as error:
            raise self._refusal(error, used) from None
        except APIConnectionError as error:
            if isinstance(error.__cause__, LabelError):  # no call can succeed
                raise error.__cause__ from None
            raise self._broken(error) from None

    def learn(self, status: int, said: str) -> bool:
        """Read the refusal of a row of a batch; whether the next batch is asked in another form."""
        form = self._form
        try:
            raise self._meaning(status, self._line(said), "", {}, form)
        except CallError:
            return self._form != form

    def _line(self, text: str) -> str:
        """Return a foreign text as part of one line: without the key, and without what would act on a terminal."""
        return " ".join("".join(char if char.isprintable() else " " for char in self.redact(text)).split())[:300]

    def _broken(self, error: APIConnectionError) -> CallError:
        cause = error.__cause__
        detail = self._line(f"{type(cause).__name__} {cause or ''}")
        never_sent = type(cause).__name__ in {"ConnectError", "ConnectTimeout", "PoolTimeout"}
        return CallError("failed" if never_sent else "lost", NO_CONNECTION if never_sent else "broken_off", detail)

    def _refusal(self, error: APIStatusError, used: Form | None) -> Exception:
        """Return what a status other than 200 means."""
        message = error.body.get("message") if isinstance(error.body, Mapping) else None
        said = self._line(message if isinstance(message, str) else error.message)
        return self._meaning(error.status_code, said, f"{error.code} {error.type}", error.response.headers, used)

    def _meaning(
        self, status: int, said: str, code: str, headers: Mapping[str, str], used: Form | None
    ) -> CallError | LabelError:
        """Return what a status means, whether it came as one or in a body."""
        if status == 429 and "insufficient_quota" in code:
            status = 402
        detail = f"HTTP {status}: {said}"
        words = f"{code} {said}".lower()
        of_dialogue = any(text in words for text in _OF_DIALOGUE)
        of_form = status in {400, 413, 422, 501} or any(word in words for word in _NAMED)
        named = of_form and (not of_dialogue or "support" in words)
        if used and named and (changed := _without(used, words)) is not None:
            return self._adapted(used, changed, detail)
        if status in _FATAL and not (status == 403 and of_dialogue):  # no call can succeed
            meaning = _FATAL[status].format(key=self._key_name)
            return LabelError(f"{host_of(self.asking.base_url)}: {meaning} ({detail})")
        if status in _BUSY:
            return CallError("busy", "busy", detail, retry_after(headers))
        if any(text in words for text in _OF_REPLY):
            return CallError("failed", "no_schema_kept", detail)
        simpler = None
        if used and (of_form or status == 500) and self._proven is None and not of_dialogue:
            simpler = _next(used, self._form)
        if status < 500 and status not in {408, 409, 425}:
            return CallError("refused", "refused_by_server", detail, simpler=simpler, own=of_dialogue)
        return CallError("failed", "server_error", detail, simpler=simpler)

    def _adapted(self, used: Form, changed: Form, detail: str) -> CallError:
        """Ask in another form from now on; once the server has answered in this one, for this question alone."""
        if self._proven is None and used == self._form:  # else another worker met the same refusal first
            self._form = changed
            self.say(f"the server takes no {_lost(used, changed)}: asked without")
        return CallError("adapt", "not_supported", detail, simpler=replace(changed, alone=self._proven is not None))


def _without(used: Form, said: str) -> Form | None:
    """Return a form without what a refusal names; None if it names no part of this one."""
    if used.alternatives and "logprobs" in said:
        fewer = _FEWER if used.alternatives > _FEWER and _TOO_MANY.search(said) else 0
        return replace(used, alternatives=fewer)
    if used.limit in said and not used.swapped and not _TOO_LARGE.search(said):
        return replace(used, limit=_OTHER_LIMIT[used.limit], swapped=True)
    if used.temperature and "temperature" in said:
        return replace(used, temperature=False)
    if used.system and _SYSTEM.search(said):
        return replace(used, system=False)
    if _FORMATS[used.format] is not None and any(word in said for word in _OF_FORMAT):
        return replace(used, format=used.format + 1)
    return None


def _next(used: Form, first: Form) -> Form | None:
    """Return the next form to try where a refusal does not say what it is of; None if there is no other.

    Every format with log-probabilities, then every format without: what the server has is lost last.
    """
    if _FORMATS[used.format] is not None:
        return replace(used, format=used.format + 1)
    return replace(used, format=first.format, alternatives=0) if used.alternatives else None


def _lost(before: Form, after: Form) -> str:
    """Return in words what a form lacks that another had."""
    parts = [_NAMES[number] for number in range(before.format, after.format)]
    parts += [before.limit] if after.limit != before.limit else []
    parts += ["temperature"] if before.temperature and not after.temperature else []
    parts += ["system message (it goes into the question)"] if before.system and not after.system else []
    if after.alternatives < before.alternatives:
        fewer = f"top_logprobs {before.alternatives} ({after.alternatives} is asked for)"
        parts.append(fewer if after.alternatives else "log-probabilities (labels are the numbers said)")
    return " and ".join(parts)


_OF_FORMAT = (
    "response_format",
    "response format",
    "schema",
    "structured",
    "grammar",
    "guided",
    "json mode",
    "json_object",
)
_NAMED = ("response_format", "logprobs")
_SYSTEM = re.compile(
    r"system.{0,20}(?:role|message|prompt|instruction)|role.{0,40}system|developer instruction|roles must alternate"
)
_TOO_LARGE = re.compile(r"too large|at most|less than or equal|maximum")
_NAMES = ("JSON schema", "JSON object with a schema")


def _folded(messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return a question as one user turn, for models that take no system message."""
    return [{"role": "user", "content": "\n\n".join(message["content"] for message in messages)}]
