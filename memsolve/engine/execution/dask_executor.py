"""An executor of the workers of a Dask client."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Executor, Future
from typing import Any


class DaskExecutor(Executor):
    """Runs calls in the workers of a Dask client, and answers each of them.

    Dask's own executor, that of `Client.get_executor`, never answers a task whose result is lost
    with its worker and that fails when it is run again.

    Args:
        client: a `distributed.Client`; who opened it closes it.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a call in one of the workers; see `concurrent.futures.Executor.submit`."""
        task = self._client.submit(fn, *args, pure=False, **kwargs)
        answer: Future[Any] = Future()
        answer.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        self._client.loop.add_callback(self._answer, task, answer)
        return answer

    async def _answer(self, task: Any, answer: Future[Any]) -> None:
        result = error = None
        try:
            result = await self._client.gather(task, asynchronous=True)
        except CancelledError:
            answer.cancel()
        except Exception as failure:
            error = failure
        if not answer.set_running_or_notify_cancel():
            return
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
