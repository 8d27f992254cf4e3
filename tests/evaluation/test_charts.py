import pytest

from reelmill.evaluation.charts import MAX_POINTS, Line, charts_of, line_chart, read_lines


def test_line_chart_places_the_ends_at_the_corners_and_escapes_its_title():
    svg = str(line_chart("a <b>", [Line("loss", ((0.0, 1.0), (10.0, 3.0)))], "step"))
    assert 'points="52.0,186.0 448.0,14.0"' in svg
    assert "a &lt;b&gt;" in svg
    assert "<b>" not in svg


def test_line_chart_puts_the_geometric_mean_in_the_middle_of_a_logarithmic_axis():
    svg = str(line_chart("t", [Line("loss", ((0.0, 1.0), (1.0, 10.0), (2.0, 100.0)))], "step", logarithmic=True))
    assert "250.0,100.0" in svg


def test_read_lines_takes_losses_and_skips_gaps_and_other_columns(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,loss,learning_rate,accuracy_shape\n1,2.0,0.1,\n2,nan,0.1,0.5\n")
    assert read_lines(path) == ("step", [Line("loss", ((1.0, 2.0),)), Line("accuracy_shape", ((2.0, 0.5),))])
    assert read_lines(tmp_path / "absent.csv") == ("row", [])


def test_read_lines_averages_long_histories(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("step,loss\n" + "".join(f"{n},{n % 2}\n" for n in range(4 * MAX_POINTS)))
    (line,) = read_lines(path)[1]
    assert len(line.points) == MAX_POINTS
    assert line.points[0] == (1.5, 0.5)


def test_charts_of_joins_related_columns(tmp_path):
    path = tmp_path / "validation.csv"
    path.write_text("step,loss,loss_at_0.1,clean_error_at_0.5,accuracy_shape,accuracy_color\n1,1,2,3,0.1,0.2\n")
    charts = charts_of("Validation", path)
    assert [chart["title"] for chart in charts] == [
        "Validation: loss",
        "Validation: clean error",
        "Validation: accuracy",
    ]
    assert [name for _, name, _ in charts[0]["legend"]] == ["loss", "loss_at_0.1"]
    assert charts[2]["legend"][1][2] == pytest.approx(0.2)
