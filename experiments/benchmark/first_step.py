"""Do what a command does before its first training step, and print a line after each part."""

import gc

from absl import flags

from experiments import launch, shared_flags

_FLAGS = flags.FLAGS


def main() -> None:
    """Define the flags and run."""
    gc.disable()  # as `launch.main` does
    import jax  # noqa: F401

    from experiments.runs import command  # noqa: F401  # with all that a command imports

    flags.DEFINE_string("dataset", "mnist", "As in the benchmark, like all other flags.")
    shared_flags.define_data_flags()
    flags.DEFINE_integer("num_images", 0, "")
    flags.DEFINE_integer("latent_dim", 20, "")
    flags.DEFINE_integer("hidden_dim", 500, "")
    flags.DEFINE_integer("batch_size", 100, "")
    launch.start(_until_first_step)


def _until_first_step() -> None:
    import jax

    from aevb import data as datasets
    from aevb import fit, mlp_vae

    print("imported", flush=True)
    train, test = (
        datasets.load(_FLAGS.dataset, split, _FLAGS.data_dir, _FLAGS.source_dir) for split in ("train", "test")
    )
    if _FLAGS.num_images:
        train = train.subset(_FLAGS.num_images)
    model = mlp_vae((train.pixels().shape[1],), _FLAGS.latent_dim, _FLAGS.hidden_dim)
    print("data loaded", flush=True)
    # With no epochs, `fit` compiles everything and evaluates the initial bounds, up to the first step.
    fit(
        train.pixels(),
        model,
        key=jax.random.key(0),
        test_data=test.pixels(),
        num_epochs=0,
        batch_size=_FLAGS.batch_size,
        on_evaluation=lambda state, row: print("first bounds", flush=True),
    )
    print("first step", flush=True)


if __name__ == "__main__":
    main()
