"""Classification from few labels: M1, M2 and M1+M2 of Kingma et al. 2014 (arXiv 1406.5298).

    python -m experiments.semi_supervised --num_labels=100 --seed=0
    python -m experiments.semi_supervised --model=m1_m2 --seed=0,1,2,3,4,5,6,7,8,9

A seed determines which images have labels, equally many per class, and the initial weights. An interrupted command
resumes when it is given again.
"""

from experiments.studies import semi_supervised

if __name__ == "__main__":
    semi_supervised.run()
