"""Engines at work: the device's memory and streams, and a runner for each way in which an engine serves tasks."""
