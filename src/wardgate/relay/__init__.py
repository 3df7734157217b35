"""A relay: carries sealed packets between peers that cannot reach each other directly."""
