from django.apps import AppConfig


class CoreConfig(AppConfig):
    name = "clusteros.core"
    label = "core"

    def ready(self) -> None:
        """Every process of the control side sends through the same Celery app."""
        from clusteros import control_app  # noqa: F401
