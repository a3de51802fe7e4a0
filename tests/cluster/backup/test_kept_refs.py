"""What refs tell of a study, whatever people have written into its base commit."""

from cluster.backup.kept_refs import kept_candidates


def test_a_line_separator_in_the_base_commits_subject_ends_no_line(
    make_repository, make_study
) -> None:
    source = make_repository()
    source.commit({"train.py": "LR = 2\n"}, "one\u2028two \x0cthree \x85four")
    study = make_study(source=source)
    first = study.candidate("LR = 3\n")
    study.keep("e0", study.base)
    study.keep("e1", first.commit)
    found = kept_candidates(study.repository)
    assert [(one.experiment, one.commit) for one in found] == [
        ("e0", study.base),
        ("e1", first.commit),
    ]
    assert found[0].subject == "one\u2028two \x0cthree \x85four"
