"""The frozen vocabulary that every part shares. Imports nothing of Wardgate; holds no clock, socket or state."""
