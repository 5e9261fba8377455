"""TorchTrainer: a trainer from a PyTorch module, data and a loss.

class MyTrainer(TorchTrainer):
    def model(self):
        return nn.Sequential(...)

    def data(self, client):
        return x, y

    def loss(self, model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y)
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedmq.errors import ConfigError
from fedmq.model_files.naming import matched, positional
from fedmq.tensors import Weights
from fedmq_client.frameworks import configuration
from fedmq_client.frameworks.held_out import WithTestData
from fedmq_client.frameworks.torch_examples import TorchExamples
from fedmq_client.frameworks.torch_modules import accept_single_values, floats_of, freeze, proximal, single
from fedmq_client.trainer import Client, Task

EVALUATION_BATCH = 256
SEEDS = 2**63

# Operations that have no repeatable form warn instead of failing.
torch.use_deterministic_algorithms(True, warn_only=True)


class TorchTrainer(WithTestData):
    """Trains and validates a PyTorch module; a subclass writes `model`, `data`, `loss`, and maybe `test_data`.

    A session may configure `epochs` (1), `batch_size` (32), `learning_rate` (as in `optimizer`) and
    `proximal_mu` (0); any other key that is not in `config_keys` is an error. Examples are shuffled
    by `task.seed`. Each task trains a fresh copy of the module, with a new optimizer, so the same
    task gives the same weights on the same machine with the same number of threads. Tensors are
    those of the state dict, named by position, as in `0003/fc.weight`; half precision travels as
    float32. A seed that is a state dict without positions, or a list of arrays, will do too.
    """

    config_keys: ClassVar[tuple[str, ...]] = ()
    """Further keys of the configuration, which a subclass reads from `task.config` itself."""

    _made: ClassVar[nn.Module]
    """What `model` made. Each class has its own, which is freed with it: a package that is read anew has new classes."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.device = torch.device("cuda" if client.device != "cpu" and torch.cuda.is_available() else "cpu")
        self._data: TorchExamples | None = None

    def model(self) -> nn.Module:
        """Returns a new module, the same for every client. Called once a process, and again where a copy can't be made."""
        raise NotImplementedError("write model(self) and return a torch.nn.Module")

    def data(self, client: Client) -> Any:
        """Returns this client's examples, once: `x, y`, or a map-style Dataset.

        - Arrays, tensors, lists, DataFrames, in tuples or dicts: a batch has the same form. Floats become float32, or
          float64 if all of the model's parameters are, and integers int64.
        - A Dataset, a list of examples, or a DataLoader, of which the dataset and `collate_fn` are used: batches are
          made here. Its items stay as they are.
        """
        raise NotImplementedError("write data(self, client) and return x, y or a Dataset")

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """Returns the mean loss of a batch, which is `x, y` or a collated batch of the Dataset."""
        raise NotImplementedError("write loss(self, model, batch) and return a scalar tensor")

    def metrics(self, model: nn.Module, batch: Any) -> Mapping[str, Any]:
        """Returns further metrics of validation, as means over the batch. None unless a subclass has some."""
        return {}

    def optimizer(self, parameters: Iterable[nn.Parameter], *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Returns the optimizer of a task: Adam unless a subclass overrides this.

        Write `optimizer(self, parameters)` or `optimizer(self, parameters, task)`. `parameters` are those that are trained.
        """
        return torch.optim.Adam(parameters)

    def scheduler(self, optimizer: torch.optim.Optimizer, task: Task) -> Any:
        """Returns a scheduler of the learning rate, which is stepped after each batch; None for none.

        `task.round` and `task.rounds` are the place in the session, and `steps(task)` the number of batches in this task.
        """
        return None

    def loader(self, dataset: Any, task: Task) -> Iterable[Any] | None:
        """Returns the batches of an epoch of training, such as a DataLoader; None for batches made here.

        Iterated once an epoch. The number of examples and the mean loss are those of the batches that it gives. It reads
        `batch_size` from `task.config` itself. Validation does not use it.
        """
        return None

    def steps(self, task: Task) -> int:
        """Returns the number of batches in a task, unless `loader` makes its own."""
        config = configuration.read(task.config, self.config_keys)
        return config.epochs * -(-len(self._examples()) // config.batch_size)

    def init(self) -> Weights:
        """Returns new weights, drawn from `client.random_seed`. Raises ConfigError if `data` returns what can't be used."""
        self._check_examples()
        return weights_of(self._new_module(self.client.random_seed))

    def roles(self) -> dict[str, str]:
        """Returns the role of each tensor, by name."""
        return roles_of(self._module())

    def train(self, weights: Weights, task: Task) -> tuple[Weights, int, dict[str, float]] | None:
        """Trains for some epochs. Abstains without data. Raises ConfigError for wrong settings or other weights.

        Tensors of `task.frozen` are not trained, and are returned as they are.
        """
        config = configuration.read(task.config, self.config_keys)
        examples = self._examples()
        if len(examples) == 0:
            return weights, 0, {}
        model, names = self._copy(weights)
        torch.manual_seed(task.seed)
        model.train()
        freeze(model, [name in task.frozen for name in names])
        accept_single_values(model)
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise ConfigError("no parameter is left to train: the policy or model() freezes each")
        anchors = [parameter.detach().clone() for parameter in parameters] if config.proximal_mu else []
        optimizer = self._optimizer(parameters, task)
        if config.learning_rate is not None:
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate
        scheduler = self.scheduler(optimizer, task)
        if isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau):
            raise ConfigError(
                "scheduler() returned ReduceLROnPlateau, which compares validations, and a task has none: return another "
                "scheduler, or let optimizer(parameters, task) choose the rate by task.round"
            )
        seen, mean = 0, 0.0
        for number, batches in enumerate(self._epochs(examples, config, task)):
            seen, total = 0, 0.0
            for batch, size in batches:
                loss = self._step(
                    optimizer, model, batch, lambda loss: proximal(loss, config.proximal_mu, parameters, anchors)
                )
                if scheduler is not None:
                    scheduler.step()
                seen, total = seen + size, total + loss.item() * size
                task.check()
                task.report((number + seen / len(examples)) / config.epochs, loss=loss.item())
            mean = total / seen if seen else 0.0
        new = dict(zip(names, weights_of(model).values(), strict=True))
        frozen = {name: weights[name] for name in names if name in task.frozen}
        return {**new, **frozen}, seen, {"loss": mean}

    def validate(self, weights: Weights, task: Task) -> tuple[int, dict[str, float]] | None:
        """Scores the weights on this client's data. Abstains without any."""
        examples = self._examples()
        if len(examples) == 0:
            return 0, {}
        model, _ = self._copy(weights)
        torch.manual_seed(task.seed)
        model.eval()
        accept_single_values(model)
        sums: dict[str, float] = {}
        done = 0
        with torch.no_grad():
            for batch, size in examples.batches(np.arange(len(examples)), EVALUATION_BATCH):
                found = {"loss": single("loss", self.loss(model, batch))}
                found |= {name: single("metrics", value) for name, value in self.metrics(model, batch).items()}
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + float(value) * size
                done += size
                task.check()
                task.report(done / len(examples))
        return len(examples), {name: value / len(examples) for name, value in sums.items()}

    def _epochs(
        self, examples: TorchExamples, config: configuration.Configuration, task: Task
    ) -> Iterator[Iterator[tuple[Any, int]]]:
        """Yields the batches of each epoch, each with its number of examples."""
        loader = self.loader(examples.dataset, task)
        if loader is None and (note := examples.unused(config.batch_size)):
            task.note(note)
        if isinstance(loader, Iterator) and config.epochs > 1:
            raise ConfigError("loader() returned an iterator, which lasts one epoch: return a DataLoader or a list")
        orders = np.random.default_rng(task.seed)
        for _ in range(config.epochs):
            if loader is None:
                yield examples.batches(orders.permutation(len(examples)), config.batch_size)
            else:
                yield examples.loaded(loader)

    def _step(
        self, optimizer: torch.optim.Optimizer, model: nn.Module, batch: Any, penalized: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Takes one step, and returns the batch's loss before it."""
        losses: list[Tensor] = []

        def closure() -> float:
            optimizer.zero_grad()
            losses.append(single("loss", self.loss(model, batch)))
            whole = penalized(losses[-1])
            whole.backward()  # type: ignore[no-untyped-call]
            return whole.item()

        needed = inspect.signature(optimizer.step).parameters.get("closure")
        if needed is not None and needed.default is inspect.Parameter.empty:  # LBFGS evaluates the loss several times
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        return losses[0]

    def _optimizer(self, parameters: list[nn.Parameter], task: Task) -> torch.optim.Optimizer:
        takes_task = "task" in inspect.signature(self.optimizer).parameters
        return self.optimizer(parameters, task=task) if takes_task else self.optimizer(parameters)

    def _examples(self) -> TorchExamples:
        if self._data is None:
            self._data = TorchExamples(*self._given(), self.device, floats_of(self._module()))
        return self._data

    def _check_examples(self) -> None:
        try:
            self._examples().check()
        except ConfigError:
            raise
        except Exception:
            # `init` may run where there is no data. The first task reports this error.
            return

    def _module(self) -> nn.Module:
        """Returns the module as `model()` made it. It is never trained."""
        own = type(self)
        if "_made" not in vars(own):
            own._made = self._new_module(0)
        return own._made

    def _new_module(self, seed: int) -> nn.Module:
        torch.manual_seed(seed % SEEDS)
        model = self.model()
        if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            raise ConfigError(
                "model() has lazy modules, whose shapes a first batch decides: call it once in model(), as in "
                "net(torch.zeros(2, 3)), or give the sizes"
            )
        return model

    def _copy(self, weights: Weights) -> tuple[nn.Module, list[str]]:
        """Returns a copy of the module with these weights, and their names in the order of its state dict."""
        try:
            model = copy.deepcopy(self._module())
        except (RuntimeError, TypeError):  # weights computed from others, as by weight_norm, or a lock, for example
            model = self._new_module(0)
        names = put_weights(model, weights)
        return model.to(self.device), names


def weights_of(model: nn.Module) -> Weights:
    """Returns copies of the state dict's tensors, by position and name. Half precision becomes float32."""
    state = model.state_dict()
    found = {}
    for name, tensor in zip(positional(state), state.values(), strict=True):
        if not isinstance(tensor, Tensor):
            raise ConfigError(f"{name} of the module's state dict is no tensor: keep it out of the state dict")
        wide = tensor.float() if tensor.is_floating_point() and tensor.itemsize < 4 else tensor
        found[name] = wide.detach().cpu().numpy().copy()
    return found


def put_weights(model: nn.Module, weights: Weights) -> list[str]:
    """Loads weights into the module, and returns their names in the order of its state dict.

    Names are those of `weights_of`, or the same without positions, or a list. Raises ConfigError for other names or shapes.
    """
    state = model.state_dict()
    names = matched(weights, positional(state))
    for name, tensor in zip(names, state.values(), strict=True):
        if tuple(tensor.shape) != weights[name].shape:
            raise ConfigError(
                f"the session's model has {name} of shape {weights[name].shape}, and model() makes {tuple(tensor.shape)}"
            )
    arrays = [np.require(weights[name], requirements="W") for name in names]
    model.load_state_dict({own: torch.from_numpy(array) for own, array in zip(state, arrays, strict=True)})
    return names


def roles_of(model: nn.Module) -> dict[str, str]:
    """Returns the role of each tensor, by the names of `weights_of`.

    Tensors with a gradient are trainable. Other floats, such as batch-norm means and variances, are statistics. Single
    integers are counters. Further integers, such as position ids, and booleans are constant.
    """
    trained = {name for name, value in model.named_parameters(remove_duplicate=False) if value.requires_grad}
    state = model.state_dict()
    roles = {}
    for position, (name, tensor) in zip(positional(state), state.items(), strict=True):
        if tensor.dtype == torch.bool or (not tensor.is_floating_point() and tensor.numel() > 1):
            roles[position] = "constant"
        elif not tensor.is_floating_point():
            roles[position] = "counter"
        else:
            roles[position] = "trainable" if name in trained else "statistic"
    return roles
