"""What everything stands on: errors, files, the spelling of named things, sections."""
