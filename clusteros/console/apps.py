from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "clusteros.console"
    label = "console"
