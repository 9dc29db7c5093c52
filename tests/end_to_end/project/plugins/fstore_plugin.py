"""Registers fstore with Airflow. Never name this file fstore.py: it would shadow the package."""

from fstore.airflow.plugin import FStorePlugin

__all__ = ["FStorePlugin"]
