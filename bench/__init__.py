"""The jobs that keep us honest: each of ours beside the floor of the same machine in the same minute."""
