<?php // "php figures.php NAME" publishes the figures of this machine every two seconds. Each has a topic of its own, which keeps the newest value.

$url = getenv('PUSH_URL') ?: 'http://localhost:3000';
$token = getenv('PUBLISH_TOKEN') ?: exit("PUBLISH_TOKEN is not set.\n");
$machine = preg_replace('/[^A-Za-z0-9._-]/', '-', $argv[1] ?? gethostname());

// publish puts a figure in the place of the one before. "part" is how much of all there is, from 0 to 1.
function publish(string $topic, string $name, string $text, ?float $part = null): void {
    global $url, $token;
    $context = stream_context_create(['http' => [
        'method' => 'POST', 'timeout' => 5, 'ignore_errors' => true,
        'header' => ["Authorization: Bearer $token", 'Content-Type: application/json'],
        'content' => json_encode(['name' => $name, 'text' => $text, 'part' => $part]),
    ]]);
    $answer = @file_get_contents("$url/sse?topic=$topic&replace=true", context: $context);
    if (!isset(json_decode((string) $answer)->id)) { // the next value comes in two seconds
        fwrite(STDERR, "Not published: " . ($answer ?: "$url does not answer") . "\n");
    }
}

function percent(float $part): string { return round(100 * $part) . ' %'; }

function bytes(float $n): string {
    for ($unit = 0; $n >= 1000; $unit++) $n /= 1000;
    return round($n, $n < 10 ? 1 : 0) . ' ' . ['B', 'kB', 'MB', 'GB', 'TB'][$unit];
}

function used(float $used, float $total): array { return [bytes($used) . ' of ' . bytes($total), $used / $total]; }

// numbers returns the numbers after a word in a file of Linux, or nothing.
function numbers(string $file, string $word): array {
    preg_match("/^\s*$word:?(.*)$/m", (string) @file_get_contents($file), $line);
    return array_map('floatval', preg_split('/\s+/', trim($line[1] ?? ''), -1, PREG_SPLIT_NO_EMPTY));
}

echo "The figures of $machine go to $url/machines/\n";
$before = [];
for (;; sleep(2)) {
    $figures = ['load' => ['Load', (string) round(sys_getloadavg()[0], 2)]];
    if ($cpu = numbers('/proc/stat', 'cpu')) {
        $now = ['all' => array_sum($cpu), 'idle' => $cpu[3] + $cpu[4]];
        if ($before && $now['all'] > $before['all']) {
            $busy = 1 - ($now['idle'] - $before['idle']) / ($now['all'] - $before['all']);
            $figures['cpu'] = ['Processors', percent($busy), $busy];
        }
        $before = $now;
    }
    if ($total = numbers('/proc/meminfo', 'MemTotal')) {
        $figures['memory'] = ['Memory', ...used(1024 * ($total[0] - numbers('/proc/meminfo', 'MemAvailable')[0]), 1024 * $total[0])];
    }
    $figures['disk'] = ['Disk', ...used(disk_total_space('/') - disk_free_space('/'), disk_total_space('/'))];
    foreach ($figures as $topic => $figure) publish("machines/$machine/$topic", ...$figure);
}
