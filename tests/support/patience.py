"""How long a test waits for what must come: nobody's speed is tested, and only a test that fails waits so long."""

PATIENCE_S = 30.0
