"""The options of each command of `wardgate`, a module each; the modules beside this package carry commands out.

Declarations only: nothing here imports the portal's store, the web framework or the native module.
"""
