"""Why it exists: ``python -m sutazai.cli`` works where the command's script is not on the path."""

from sutazai.cli.app import main

main()
