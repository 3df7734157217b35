"""What each command of `wardgate` can be told, a module each; the modules beside this package do what they
were told.

Declarations only: nothing here imports the portal's store, the web framework or the native module.
"""
