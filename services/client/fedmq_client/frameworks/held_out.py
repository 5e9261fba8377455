"""Which examples a framework's trainer reads: a client's own, or the test set of an evaluator."""

from typing import Any

from fedmq_client.trainer import Client


class WithTestData:
    """Base of the trainers for frameworks. A subclass that has a test set overrides `test_data`."""

    client: Client

    def data(self, client: Client) -> Any:
        """Returns this client's examples, as the framework's trainer describes them."""
        raise NotImplementedError

    def test_data(self, client: Client) -> Any:
        """Returns the test set of an evaluator, in the form of `data`: examples that no client trains on. Called once.

        Clients that train never call it. Without it, evaluators give no score.
        """
        raise NotImplementedError

    @property
    def test_set(self) -> bool:
        """Whether an evaluator may score: the package has a test set."""
        return type(self).test_data is not WithTestData.test_data

    def _given(self) -> tuple[Any, str]:
        """Returns what an evaluator scores or a client trains on, and the hook that returned it.

        A trainer with `test_set = True` of its own may give an evaluator its test set in `data()`.
        """
        if self.client.evaluator and type(self).test_data is not WithTestData.test_data:
            return self.test_data(self.client), "test_data()"
        return self.data(self.client), "data()"
