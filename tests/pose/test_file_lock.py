import threading

from mmpt.pose.file_lock import locked


def test_one_at_a_time_and_nothing_left(tmp_path):
    path = tmp_path / "new folder" / "x.lock"
    inside, most = [], []

    def work():
        for _ in range(30):
            with locked(path) as held:
                assert held
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 120 and max(most) == 1
    assert list(path.parent.iterdir()) == []


def test_who_waited_holds_the_lock_that_others_see(tmp_path):
    """The first holder removes the file: a waiter must not take the removed one for the lock."""
    path = tmp_path / "x.lock"
    seen, waiting = [], threading.Event()

    def wait():
        waiting.set()
        with locked(path):
            seen.append(path.exists())

    with locked(path):
        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait()
        threading.Event().wait(0.1)
        assert not seen
    thread.join()
    assert seen == [True]


def test_an_error_inside_lets_go(tmp_path):
    for _ in range(2):
        try:
            with locked(tmp_path / "x.lock"):
                raise KeyError
        except KeyError:
            continue
    assert list(tmp_path.iterdir()) == []
