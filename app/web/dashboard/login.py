"""``/login`` and ``/logout``."""

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.domain.problems import Unauthenticated
from app.services import browser_sessions
from app.web.dashboard import page
from app.web.dashboard.back import Back, on_this_site
from app.web.dashboard.visitor import COOKIE, Form, Looking
from app.web.gateway import gateway_of
from app.web.security import keyless

router = APIRouter()


@router.get("/login")
def login_page(request: Request, back: Back = "/") -> Response:
    """Ask for a key."""
    if keyless(gateway_of(request).settings):
        return page.see("/")
    return page.show("login.html", None, back=on_this_site(back), fault=None)


@router.post("/login")
async def log_in(request: Request, back: Back = "/") -> Response:
    """Take a key, and give a cookie that stands for it."""
    gateway = gateway_of(request)
    form = await request.form(max_files=0)
    hours = gateway.settings.dashboard.session_hours

    def begin() -> str:
        with gateway.sessions.begin() as session:
            return browser_sessions.log_in(session, str(form.get("key", "")).strip(), hours)

    try:
        token = await run_in_threadpool(begin)
    except Unauthenticated as fault:
        return page.show(
            "login.html", None, status=401, back=on_this_site(back), fault=fault.detail
        )
    answer = page.see(on_this_site(back))
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(3600 * hours),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout")
def log_out(visitor: Looking, form: Form) -> Response:  # noqa: ARG001 (it is checked)
    """End the session."""
    answer = page.see("/login")
    if visitor.token is not None:
        with visitor.call.transaction() as session:
            browser_sessions.log_out(session, visitor.token)
        answer.delete_cookie(COOKIE)
    return answer
