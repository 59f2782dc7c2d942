"""Variation of training images: functions on a batch on its device, whose draws position and seed alone decide."""
