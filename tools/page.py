"""Voilà for one page and this machine only; `tools/serve.py` starts it.

Voilà by itself answers whoever asks, under any name of this machine. So a website that
lets its own name point to 127.0.0.1 (DNS rebinding) could open a kernel of this page,
any website could start kernels, and a kernel stays when its page is gone. Here a
request must name this machine, other sites may at most link to the page, nothing but
the page is served, kernels are few, and those of closed pages end.
"""

import sys
from pathlib import Path
from urllib.parse import urlsplit

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import ErrorHandler, HTTPError
from traitlets.config import Config
from voila.app import Voila

PAGES = 4  # open at a time; each takes about 800 MB
CLOSED = 120  # seconds after which the kernel of a page that is closed ends
BYTES = 100 * 2**20  # of one upload, and a little more for what is around it
TEMPLATE = Path(__file__).resolve().parent.parent / "app" / "template"
HERE = ("127.0.0.1", "localhost", "::1")  # names of this machine
PATHS = ("/", "/favicon.ico")
FOLDERS = (
    "/api/kernels/",
    "/static/",
    "/voila/static/",
    "/voila/templates/",
    "/voila/labextensions/",
    "/voila/api/themes/",
    "/voila/api/shutdown/",
)


def fault(request):  # None, or str
    "Why a request is refused, if it is."
    headers, host = request.headers, request.headers.get("Host", "")
    if name_of(f"//{host}") not in HERE:
        return "this page is for this machine only"
    origin = headers.get("Origin")
    if origin and urlsplit(origin).netloc.lower() != host.lower():
        return "another site asks"
    visit = headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")
    other = headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
    if other and visit != ("navigate", "document"):
        return "another site asks"
    if request.method not in ("GET", "HEAD") and not origin:
        return "it does not say which page asks"
    if request.path not in PATHS and not request.path.startswith(FOLDERS):
        return "there is only one page"
    return None


def name_of(address):  # str or None
    "The host of an address; None if it has none, or a wrong one."
    try:
        parts = urlsplit(address)
        return None if parts.username or parts.path else parts.hostname
    except ValueError:
        return None


class FewKernels(AsyncMappingKernelManager):
    """Kernels for so many pages and no more."""

    starting = 0

    async def start_kernel(self, *arguments, **options):
        "Start the kernel of a page, unless there are enough."
        if len(self.list_kernel_ids()) + self.starting >= PAGES:
            text = f"{PAGES} pages are open: close one, wait {CLOSED} seconds"
            raise HTTPError(503, text, reason=text)
        self.starting += 1
        try:
            return await super().start_kernel(*arguments, **options)
        finally:
            self.starting -= 1


class Page(Voila):
    """Voilà that answers this machine, and shows nothing but its page."""

    def load_config_file(self, *arguments, **options):
        "Read what the user has told Voilà; what is told here counts."
        super().load_config_file(*arguments, **options)
        self.update_config(config())

    def setup_template_dirs(self):
        "Let our template come first, which asks no other machine for anything."
        super().setup_template_dirs()
        self.template_paths.insert(0, str(TEMPLATE))

    def init_settings(self):
        "Let long messages in, no names of other machines, and a closed page say so."
        return super().init_settings() | {
            "allow_remote_access": False,
            "local_hostnames": list(HERE),
            "websocket_max_message_size": 2 * BYTES,
            # The page says that it is closed with no such cookie: a bug of Voilà's that
            # keeps its kernel. That the page itself asks is seen from its Origin.
            "disable_check_xsrf": True,
        }

    def listen(self):
        "Look at each request before anything else does."
        find, app = self.app.find_handler, self.app

        def guarded(request, **options):
            if why := fault(request):
                self.log.warning("refused: %s %r: %s", request.method, request.uri, why)
                return app.get_handler_delegate(
                    request, ErrorHandler, {"status_code": 403}
                )
            return find(request, **options)

        app.find_handler = guarded
        super().listen()


def config():  # Config
    "What Voilà is told besides its page."
    told = Config()
    told.Voila.ip = "127.0.0.1"
    told.VoilaConfiguration.file_denylist = [".*"]
    told.VoilaConfiguration.allow_template_override = "NO"
    told.VoilaConfiguration.allow_theme_override = "NO"
    told.VoilaConfiguration.multi_kernel_manager_class = FewKernels
    told.FewKernels.cull_idle_timeout = CLOSED
    told.FewKernels.cull_interval = max(1, CLOSED // 4)
    told.FewKernels.cull_connected = False  # an open page stays, however long
    return told


if __name__ == "__main__":
    page = str(Path(sys.argv[1]).resolve())
    Page.launch_instance([page, *sys.argv[2:]], config=config())
