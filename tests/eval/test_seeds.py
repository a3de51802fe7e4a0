"""Where a script's randomness comes from."""

import pytest

from eval.seeds import SeedHabit, seed_habit


@pytest.mark.parametrize(
    ("text", "habit"),
    [
        ("seed = int(os.environ['INCUMBENT_SEED'])\ntorch.manual_seed(seed)", SeedHabit.TAKEN),
        ("python train.py --seed $INCUMBENT_SEED", SeedHabit.TAKEN),
        ("torch.manual_seed(42)", SeedHabit.FIXED),
        ("torch.cuda.manual_seed_all(SEED)", SeedHabit.FIXED),
        ("np.random.seed(0)", SeedHabit.FIXED),
        ("rng = np.random.default_rng(7)", SeedHabit.FIXED),
        ("split(x, y, random_state=0)", SeedHabit.FIXED),
        ("key = jax.random.PRNGKey(1)", SeedHabit.FIXED),
        ("rng = np.random.default_rng()", SeedHabit.FREE),
        ("# torch.manual_seed(42)", SeedHabit.FREE),
        ("def seed(): ...", SeedHabit.FREE),
    ],
)
def test_the_habit_is_read_off_the_text(text: str, habit: SeedHabit) -> None:
    assert seed_habit([text, "print('loss: 1')"]) is habit
