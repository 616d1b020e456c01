"""An HTTP API and a page over a trained model, an index and folders of results."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and the number of concurrent requests.

    bytes: of the body. frames: of a clip. clips, prompts: in a request. characters: of a prompt. seconds: to
    receive a request, and to answer it. requests: at the same time; more are answered with status 429.
    """

    bytes: int = 32 << 20
    frames: int = 4000
    clips: int = 64
    prompts: int = 4000
    characters: int = 2000
    seconds: float = 30
    requests: int = 64


DEFAULT_LIMITS = Limits()
