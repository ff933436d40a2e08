<?php
// An authorizer in PHP: lets through who comes with the cookie SID of a session.
//
//     "bin-path" => "/usr/bin/php-cgi -d display_errors=0", "script" => "/usr/local/lib/authorizer.php"
//
// "script" is needed: PHP runs what SCRIPT_FILENAME names, and that would be the private file. display_errors=0 too: with
// it a script that fails answers 500, without it 200. The folder SESSIONS ("bin-environment") holds a file for each
// session: its name is the session's secret of 16 to 64 letters and digits, its first line the user.
// docs/authorizers.md says what is asked and what follows from answers.

http_response_code(403);  // until somebody is found: whatever fails below is a no
header('Content-Type: text/plain');
header('Cache-Control: no-store');

function find_user(string $session): ?string
{
    $sessions = getenv('SESSIONS', true);
    // Nothing but letters and digits: it becomes a file's name.
    if ($sessions === false || !preg_match('/\A[A-Za-z0-9]{16,64}\z/', $session)) {
        return null;
    }
    $file = "$sessions/$session";
    $line = is_file($file) ? file($file, FILE_IGNORE_NEW_LINES)[0] ?? '' : '';
    return preg_match('/\A[\x20-\x7e]+/', $line, $match) ? $match[0] : null;
}

$session = $_COOKIE['SID'] ?? '';
$user = is_string($session) ? find_user($session) : null;
if ($user === null) {
    echo "Please log in.\n";
} else {
    header("Variable-REMOTE_USER: $user");
    // Where the gateway keeps decisions ("cache"): this one for a minute. A yes for all that lies in a folder would be
    // header('Variable-GFASTCGI_GRANT: path=/maps/12/; ttl=300').
    header('Cache-Control: max-age=60');
    http_response_code(200);
}
