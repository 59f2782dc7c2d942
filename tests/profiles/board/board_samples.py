"""Recorded layouts of sysfs, written into a folder, and meters that answer from a list.

The layouts are those that the following describe, with values of real boards' order:

- kernel.org, hwmon drivers `ina3221` and `ina238`: `in<c>_label`, `in<c>_input` (mV), `curr<c>_input` (mA),
  `in7_label` for the sum of shunt voltages, `power1_input` (uW).
- Jetson Linux Developer Guide r35 and r36, Jetson Orin: monitors at 1-0040 and 1-0041 under
  `/sys/bus/i2c/drivers/ina3221`; on AGX Orin VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0 and, inside the last,
  VDDQ_VDD2_1V8AO; on Orin NX and Nano VDD_IN with VDD_CPU_GPU_CV and VDD_SOC; cooling devices called `...-alert`;
  over-current counters `oc<n>_event_cnt` of `soctherm_oc`.
- Jetson Linux Developer Guide r38, Jetson Thor: VDD_GPU, VDD_CPU_SOC_MSS, VIN_SYS_5V0 from an INA3221, VIN from an
  INA238.
- Tegra Linux Driver Package guide 32, Jetson AGX Xavier: `ina3221x` with `iio:device<n>`, `rail_name_<c>` and
  `in_power<c>_input` (mW).
"""

from mimi_edge.profiles.board.power import PowerReading

CHIP = "sys/bus/i2c/drivers/ina3221/1-00{address}/hwmon/hwmon{number}"


def write_tree(root, files):
    """Writes texts by path below a root; a value of None makes something that cannot be read."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir()
        else:
            path.write_text(f"{text}\n")
    return root


def chip(address, number, channels):
    """An INA3221 with (label, millivolts, milliamperes) for its three channels, and the sum that is no rail."""
    folder = CHIP.format(address=address, number=number)
    files = {f"{folder}/name": "ina3221", f"{folder}/in7_label": "sum of shunt voltages", f"{folder}/in7_input": "999"}
    for channel, (label, millivolts, milliamperes) in enumerate(channels, 1):
        files |= {
            f"{folder}/in{channel}_label": label,
            f"{folder}/in{channel}_input": millivolts,
            f"{folder}/curr{channel}_input": milliamperes,
        }
    return files


def thermal(zones, cooling):
    files = {}
    for number, (kind, thousandths) in enumerate(zones):
        files |= {
            f"sys/class/thermal/thermal_zone{number}/type": kind,
            f"sys/class/thermal/thermal_zone{number}/temp": thousandths,
        }
    for number, (kind, state) in enumerate(cooling):
        files |= {
            f"sys/class/thermal/cooling_device{number}/type": kind,
            f"sys/class/thermal/cooling_device{number}/cur_state": state,
        }
    return files


def clocks(gpu, gpu_hz, cpu_khz, cores=2):
    files = {
        f"sys/class/devfreq/{gpu}/{which}_freq": value
        for which, value in zip(("min", "max", "cur"), gpu_hz, strict=True)
    }
    for core in range(cores):
        for which, value in zip(("min", "max", "cur"), cpu_khz, strict=True):
            files[f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_{which}_freq"] = value
    return files


MEMORY = {"proc/meminfo": "MemTotal:        7800000 kB\nMemFree:         1000000 kB\nMemAvailable:    5000000 kB"}
MODES = "# comment\n< PARAM TYPE=FILE NAME=CPU_ONLINE >\n< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n"

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: now",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
    "etc/nvpmodel.conf": MODES + "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nCPU_ONLINE CORE_0 1",
    **chip(40, 1, [("VDD_IN", 5000, 2000), ("VDD_CPU_GPU_CV", 5000, 800), ("VDD_SOC", 5000, 400)]),
    **thermal(
        [("cpu-thermal", 51500), ("gpu-thermal", 49250), ("cv0-thermal", None), ("tj-thermal", 51500), ("x", -256000)],
        [("pwm-fan", 3), ("cpu-throttle-alert", 0), ("gpu-throttle-alert", 0), ("cpufreq-cpu0", 0)],
    ),
    **clocks("17000000.gpu", (306000000, 1020000000, 612000000), (729600, 1728000, 1344000)),
    **{f"sys/class/hwmon/hwmon0/oc{number}_event_cnt": number - 1 for number in (1, 2, 3)},
    "sys/class/hwmon/hwmon0/name": "soctherm_oc",
    **MEMORY,
}

AGX_ORIN = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, DATE: now",
    "var/lib/nvpmodel/status": "pmode:0000",
    **chip(40, 3, [("VDD_GPU_SOC", 19000, 300), ("VDD_CPU_CV", 19000, 100), ("VIN_SYS_5V0", 5000, 900)]),
    **chip(41, 4, [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 0, 0)]),
    **clocks("17000000.ga10b", (1300500000, 1300500000, 1300500000), (2201600, 2201600, 2201600)),
    **MEMORY,
}

THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: now",
    "sys/class/hwmon/hwmon1/name": "ina3221",
    **{
        f"sys/class/hwmon/hwmon1/in{c}_label": label
        for c, label in enumerate(["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"], 1)
    },
    **{f"sys/class/hwmon/hwmon1/in{c}_input": 12000 for c in (1, 2, 3)},
    **{f"sys/class/hwmon/hwmon1/curr{c}_input": 500 * c for c in (1, 2, 3)},
    "sys/class/hwmon/hwmon2/name": "ina238",
    "sys/class/hwmon/hwmon2/label": "VIN",
    "sys/class/hwmon/hwmon2/power1_input": 42500000,
    **clocks("gpu-gpc-0", (306000000, 1575000000, 1575000000), (972000, 2601000, 2601000)),
}

AGX_XAVIER = {
    "proc/device-tree/model": "Jetson-AGX\0",
    "etc/nv_tegra_release": "# R32 (release), REVISION: 7.3, GCID: 31982016, BOARD: t186ref, EABI: aarch64, DATE: now",
    **{
        f"sys/bus/i2c/drivers/ina3221x/1-004{chip_}/iio:device{chip_}/{kind}": value
        for chip_, rails in enumerate([("GPU", "CPU", "SOC"), ("CV", "VDDRQ", "SYS5V")])
        for channel, rail in enumerate(rails)
        for kind, value in ((f"rail_name_{channel}", rail), (f"in_power{channel}_input", 1000 * (chip_ + 1)))
    },
}


class ListedMeter:
    """A meter whose watts are known, one a reading; an exception in the list is raised."""

    description = "a list"

    def __init__(self, answers, step_ns=10**8):
        self.answers, self.step_ns, self.asked = list(answers), step_ns, 0

    def read(self):
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return PowerReading(answer, {"all": answer}, self.asked * self.step_ns)
