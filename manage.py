#!/usr/bin/env python
"""Commands of the control side (Django): migrate, bootstrap, scheduler, rebuild_record."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "clusteros.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
