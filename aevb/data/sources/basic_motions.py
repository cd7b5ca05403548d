"""BasicMotions: 80 recordings of four actions by a smart watch, with 6 channels and 100 steps of a tenth of a second.

The data are from the UEA archive (Bagnall et al., "The UEA multivariate time series classification archive", 2018):
acceleration and rotation in three dimensions each, 40 series for training and 40 for testing.
"""

from aevb.data.time_series import archive_source

SOURCE = archive_source(
    name="basic_motions",
    archive_name="BasicMotions",
    files={
        "train": (40, 227_790, "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6"),
        "test": (40, 227_713, "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc"),
    },
    num_steps=100,
    num_channels=6,
    label_names=("Standing", "Running", "Walking", "Badminton"),
)
