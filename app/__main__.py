"""``python -m app`` is the gateway, with the settings of the environment."""

from app.main import serve
from app.settings import settings

serve(settings())
