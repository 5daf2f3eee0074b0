"""All replayed sites, and their pages by name."""

from tests.replay.site import Site
from tests.replay.sites.arte import Arte
from tests.replay.sites.bilibili import Bilibili
from tests.replay.sites.dailymotion import Dailymotion
from tests.replay.sites.instagram import Instagram
from tests.replay.sites.podcast import Podcast
from tests.replay.sites.reddit import Reddit
from tests.replay.sites.ted import Ted
from tests.replay.sites.tiktok import TikTok
from tests.replay.sites.twitch import Twitch
from tests.replay.sites.vimeo import Vimeo
from tests.replay.sites.x import X

SITES: tuple[Site, ...] = (
    Vimeo(), Ted(), Arte(), Reddit(), Dailymotion(), X(), Twitch(), TikTok(), Instagram(), Bilibili(),
    Podcast(),
)  # fmt: skip
PAGES: dict[str, tuple[Site, str]] = {name: (site, url) for site in SITES for name, url in site.pages.items()}
