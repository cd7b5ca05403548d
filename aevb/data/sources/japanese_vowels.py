"""JapaneseVowels: 640 utterances of "ae" by nine speakers, with 7 to 29 steps of 12 coefficients.

Kudo, Toyama and Shimbo, "Multidimensional Curve Classification Using Passing-Through Regions", 1999. The coefficients
are LPC cepstrum coefficients. 270 series, 30 per speaker, are for training and 370 for testing. The label is the
speaker.
"""

from aevb.data.time_series import archive_source

SOURCE = archive_source(
    name="japanese_vowels",
    archive_name="JapaneseVowels",
    files={
        "train": (270, 487_971, "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd"),
        "test": (370, 649_132, "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462"),
    },
    num_steps=29,
    num_channels=12,
    label_names=tuple("123456789"),
)
