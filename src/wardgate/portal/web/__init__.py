"""The frame of the pages for people; `application.build` makes what answers every path that nobody else does."""
