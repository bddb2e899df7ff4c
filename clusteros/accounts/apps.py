from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "clusteros.accounts"
    label = "accounts"
