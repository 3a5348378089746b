"""A sink of your own: every reading is kept, as always, and those that are too warm are written to a file at once."""

from anchovies.sdk import Downloader, context, sink, source

READINGS = [
    {"n": 1, "sensor": "north", "degrees": 3.5},
    {"n": 2, "sensor": "south", "degrees": 9.25},
    {"n": 3, "sensor": "north", "degrees": 4.0},
    {"n": 4, "sensor": "south", "degrees": 8.5},
]
TOO_WARM = 8.0


class Readings(Downloader):
    @source("readings")
    def readings(self):
        last = context().checkpoint("last reading")
        for reading in READINGS:
            if reading["n"] > last.get(0):
                yield reading
                last.set(reading["n"])

    @sink("readings", streaming=True)
    def alarm(self, stream):
        with open("alarms.txt", "a") as alarms:
            for reading in stream:
                if reading["degrees"] > TOO_WARM:
                    print(f"{reading['sensor']}: {reading['degrees']} degrees", file=alarms, flush=True)
