"""One linear embedding of frames that several data sets share, and what its windows are worth."""
